"""What the pool does before it is asked: schedules, preloads, and room made under pressure.

Each controller looks at the pool now and then and posts what follows; the pool decides what comes
of it. What a controller decides itself is in a pure module beside it.
"""
