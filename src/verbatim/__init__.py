"""verbatim: an OpenAI-compatible LLM server that gives the same answer, word for word, on every engine.

The parts lie in folders of their own at the top of the repository; setup.py links them into this package, so that
`verbatim.reference` is reference/, `verbatim.fastpath` is fastpath/, and so on.
"""
