"""The agent: an LLM writes candidates, the test suite grades them."""
