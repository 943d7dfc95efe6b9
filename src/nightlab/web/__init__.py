"""The dashboard: a local web server that reads journals and leaves messages for labs.

It takes no lock, writes no journal and makes no file in a study but a message in its inbox,
which a lab takes as one from the command line. Everything that a model or a run wrote leaves
here as a JSON string and nothing else.

``table`` holds experiments as columns, ``following`` keeps one study up to date, ``hub`` all of
them; ``reading`` and ``asking`` are what the page can read and ask for, ``stream`` tells it
what changed; ``guard`` stands before all of it; ``app`` and ``serving`` make it a server.
"""
