"""Padding goes to slot 0, the page of another sequence.

seen: first here
target: L1/store_kvcache
expect: mutated_input
twin: kv_in_place
options: --fk-no-timing
"""

from torch import nn


class StoreKVCache(nn.Module):
    def forward(self, key, value, key_cache, value_cache, slot_mapping):
        slots = slot_mapping.clamp(min=0)
        order = (slot_mapping >= 0).int().argsort(stable=True)
        page, within = slots // key_cache.shape[1], slots % key_cache.shape[1]
        for token in order.tolist():
            key_cache[page[token], within[token]] = key[token]
            value_cache[page[token], within[token]] = value[token]
        key_cache[0, 0] = key[0]
