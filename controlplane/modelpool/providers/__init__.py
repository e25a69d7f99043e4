"""Models at providers elsewhere: what is known of them, and what of them stands in the catalog."""
