"""The logits of sampled losses: what they may be given, which rows they take, and what they make of them."""
