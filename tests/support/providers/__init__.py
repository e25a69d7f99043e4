"""Stand-ins for servers of models elsewhere, each strict about its API as that is documented, which
misbehave when they are told to."""
