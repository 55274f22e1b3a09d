"""How many requests each caller, tenant and address may send, and how many notifications a tenant a day.

`policies` reads what is allowed, `windows` is the arithmetic, `memory` and `shared` count, `limits` asks them.
"""
