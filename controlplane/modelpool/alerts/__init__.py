"""Alerts: what an operator is told of before users call. Rules are evaluated by a pure function;
sampling, events and sending are around it."""
