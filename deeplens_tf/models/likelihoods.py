"""How well a predicted log10 mass fits the true one; losses and metrics of the mass head.

All take the truth as (batch, 1) and the output of `MassHead` as (batch, 1 or 2), in dex.
"""
