"""Rows of zeros are not written, since fresh caches hold zeros.

seen: first here
target: L1/store_kvcache
expect: missed_write
twin: kv_in_place
options: --fk-no-timing
"""

from torch import nn


class StoreKVCache(nn.Module):
    def forward(self, key, value, key_cache, value_cache, slot_mapping):
        used = slot_mapping >= 0
        slots = slot_mapping[used]
        page, within = slots // key_cache.shape[1], slots % key_cache.shape[1]
        rows = key[used].flatten(1).any(1)
        key_cache[page[rows], within[rows]] = key[used][rows]
        value_cache[page, within] = value[used]
