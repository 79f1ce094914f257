"""`collector demo` and `collector local`: the whole system on servers of its own, to be seen and to be tried.

command.py     the two commands
main.py        the demo from start to exit status
scenario.py    the acts of the demo
feeds.py       the published entries: live logs, a shop's orders    poison.py   the bad messages
ledger.py      the confirmed entries, compared with the found ones  found.py    the look-ups in MongoDB
display.py     the progress on the terminal                         report.py   the result
replica.py     `collector run` as processes                         signals.py  Ctrl-C, and calls that block
playground.py  `collector local`                                    shell.py    lines to paste into a shell
"""
