"""`collector demo` and `collector local`: the whole system on servers of its own, to be seen and to be tried.

command.py     the two commands
main.py        the demo: what is opened, what ends it, the exit status
scenario.py    what happens in it, act by act
feeds.py       what is published: live logs and a shop's orders     poison.py   the bad messages
ledger.py      what was confirmed, compared with what was found     found.py    what is looked up in MongoDB
display.py     what is seen meanwhile                               report.py   what is said at the end
replica.py     `collector run` as processes                         signals.py  Ctrl-C, and calls that block
playground.py  `collector local`                                    shell.py    what is pasted into a shell
"""
