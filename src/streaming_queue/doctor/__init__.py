"""Checks of a machine, a run or an agent. They change nothing and ask no model.

A check returns findings with remedies. `plan` chooses the checks of a target, `examination` carries them out.
"""
