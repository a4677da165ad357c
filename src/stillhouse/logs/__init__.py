"""Reads recorded traffic: files of LLM calls in, core nouns out; it holds no rules.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> row = b'{"prompt": "2+2", "answer": "4", "model": "gpt-5", "id": "a1"}\\n'
>>> with TemporaryDirectory() as folder:
...     log = Path(folder) / "log.jsonl"
...     _ = log.write_bytes(row)
...     found = detect(log)
...     reader = read(log, found)
...     answers = [call.completion.text for call in reader]
>>> found.sentence
'log.jsonl is a table in JSON lines; read as prompt: prompt, answer: answer, model: model, id: id'
>>> answers, reader.position
(['4'], Position(offset=63, line=1))
"""

from stillhouse.logs.detection import LogFormat, detect
from stillhouse.logs.lines import START, Position, fingerprint
from stillhouse.logs.reading import LogReader, read

__all__ = ["START", "LogFormat", "LogReader", "Position", "detect", "fingerprint", "read"]
