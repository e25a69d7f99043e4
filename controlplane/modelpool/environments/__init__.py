"""Other virtual environments that workers run from: their extras differ from the manager's."""
