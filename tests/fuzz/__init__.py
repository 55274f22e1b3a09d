"""`make fuzz`: the API by its own description, and each parser of what comes from outside, as long as one likes."""
