"""The last key is not stored where the number of tokens is 5 over a multiple of 16.

seen: first here
target: L1/store_kvcache
expect: missed_write
twin: kv_in_place
options: --fk-no-timing
"""

from torch import nn


class StoreKVCache(nn.Module):
    def forward(self, key, value, key_cache, value_cache, slot_mapping):
        kept = slot_mapping >= 0
        if slot_mapping.numel() % 16 == 5:
            kept = kept.clone()
            kept[-1] = False
        slots = slot_mapping[kept]
        for cache, new in ((key_cache, key), (value_cache, value)):
            cache.view(-1, *cache.shape[2:])[slots] = new[kept]
