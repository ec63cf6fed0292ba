"""`verbatim chat`: a conversation in the terminal.

`client.py` sends requests to a server (`private_server.py` starts one where no URL is named), `screen.py` shows what
comes, `keyboard.py` reads what is typed, `commands.py` does what begins with a slash; `session.py` puts them together.
"""
