"""All ways in which a layer drops something, for several test modules."""

DROPPED = [
    {"dropout": 0.4},
    {"dropout": 0.4, "dropout_mode": "literal"},
    {"dropout": 0.4, "dropout_mode": "inverted"},
    {"input_dropout": 0.4},
]
