"""Writes into the caches that it is given, as the baseline does, padding left out.

target: L1/store_kvcache
"""

from torch import nn


class StoreKVCache(nn.Module):
    def forward(self, key, value, key_cache, value_cache, slot_mapping):
        used = slot_mapping >= 0
        slots = slot_mapping[used]
        page, within = slots // key_cache.shape[1], slots % key_cache.shape[1]
        key_cache[page, within], value_cache[page, within] = key[used], value[used]
