"""How OpenAI-compatible is an endpoint? Small cases send requests to any base URL and judge the answers.

The package stands alone: it imports nothing from the rest of the repository, so that it can be used without it.
`verbatim conform --base-url URL --model ID` runs it; README.md explains verdicts, levels and reports.
"""

__version__ = "0.1.0"
