"""Padding is slot -1, which Python's indices take for the last row of the cache.

seen: public reports of serving engines, 2024 to 2026
target: L1/store_kvcache
expect: mutated_input
twin: kv_in_place
options: --fk-no-timing
"""

from torch import nn


class StoreKVCache(nn.Module):
    def forward(self, key, value, key_cache, value_cache, slot_mapping):
        page, within = slot_mapping // key_cache.shape[1], slot_mapping % key_cache.shape[1]
        key_cache[page, within], value_cache[page, within] = key, value
