"""The thinking modes of Pangu Embedded: the tags that ask for them, and the span that holds the thoughts."""

# What the official recipe puts at the end of the user's turn (openPangu Embedded, inference/generate.py).
TAGS = {"slow": "", "fast": " /no_think", "model": " /auto_think"}
OPEN, CLOSE = "[unused16]", "[unused17]"
