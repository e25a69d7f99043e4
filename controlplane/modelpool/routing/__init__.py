"""Who answers: names that are no files, what a request is made of, and which model suits it."""
