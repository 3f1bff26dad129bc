"""The logits of sampled losses: their arguments, the rows that they read, and what they compute from them."""
