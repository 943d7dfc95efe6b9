"""Real coding agents, driven against the scripted model server. No model is ever called."""
