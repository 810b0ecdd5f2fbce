"""How a model's answer is held to the schema it learnt, guarded, and given a confidence."""
