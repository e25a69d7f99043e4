"""What exists: models, their names, their files, and the database that remembers them."""
