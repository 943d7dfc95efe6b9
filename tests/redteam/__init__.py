"""The red team: programs that misbehave, run for real, and what became of each.

``attacks/`` holds them, one file per category; ``world`` the place they are let loose in and
what is looked at afterwards; ``test_redteam`` runs them in every sandbox that works here;
``python -m tests.redteam.table`` prints what each sandbox stops.
"""
