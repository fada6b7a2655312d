"""What is wrong here, and what to do about it: checks that change nothing and ask no model.

A check returns findings; `plan` says which checks a target needs, `examination` carries them out.
"""
