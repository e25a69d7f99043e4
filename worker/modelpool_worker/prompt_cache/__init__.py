"""What an engine child keeps of its prompts between two loads: files, and what they are worth."""
