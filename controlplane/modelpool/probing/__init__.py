"""What a model can do, found out by asking: ``checks`` has the questions, ``probe`` asks them."""
