"""What the pool does before it is asked: schedules, preloads, and room made under pressure."""
