"""The management API: parse, call a service, shape the answer. One file per resource."""
