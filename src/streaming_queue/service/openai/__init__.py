"""The pure part of an API that clients of OpenAI speak: requests are read, answers are built. No I/O."""
