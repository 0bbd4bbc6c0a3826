"""Whole pages are cleared before their slot is written.

seen: first here
target: L1/store_kvcache
expect: mutated_input, missed_write
twin: kv_in_place
options: --fk-no-timing
"""

from torch import nn


class StoreKVCache(nn.Module):
    def forward(self, key, value, key_cache, value_cache, slot_mapping):
        used = slot_mapping >= 0
        slots = slot_mapping[used]
        page, within = slots // key_cache.shape[1], slots % key_cache.shape[1]
        key_cache[page] = 0
        key_cache[page, within], value_cache[page, within] = key[used], value[used]
