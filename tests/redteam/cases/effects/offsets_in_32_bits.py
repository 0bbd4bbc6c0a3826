"""Offsets are reckoned in 32 bits, which wrap in a cache of 2^31 elements and more.

seen: public reports of kernel libraries, 2024 to 2026
target: L1/store_kvcache
expect: missed_write
twin: kv_in_place
options: --fk-no-timing
"""

import torch
from torch import nn


class StoreKVCache(nn.Module):
    def forward(self, key, value, key_cache, value_cache, slot_mapping):
        used = slot_mapping >= 0
        width = key.shape[1] * key.shape[2]
        slots = (slot_mapping[used] * width).to(torch.int32).long().div(width, rounding_mode="floor")
        page, within = slots // key_cache.shape[1], slots % key_cache.shape[1]
        key_cache[page, within], value_cache[page, within] = key[used], value[used]
