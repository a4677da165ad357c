"""Says the parts of a turn in the other format: text, images, documents."""

from __future__ import annotations

import re

from stillhouse.core.errors import CallerError
from stillhouse.dialects.translate_json import Body, objects, refuse, text

_DATA_URL = re.compile(
    r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,]*)*)(;base64)?,", re.IGNORECASE
)
_IMAGES = {"image/jpg": "image/jpeg"} | {
    name: name for name in ("image/jpeg", "image/png", "image/gif", "image/webp")
}
_OWN_MODEL = "use a model that speaks this format itself"


def blocks(content: object, where: str) -> list[Body]:
    """Turn a chat turn's content into Anthropic blocks; empty text, which Anthropic refuses, goes.

    >>> blocks("Hi", "messages[0].content")
    [{'type': 'text', 'text': 'Hi'}]
    """
    if content is None:
        return []
    if type(content) is str:
        return [{"type": "text", "text": content}] if content else []
    parts = objects(content, where)
    said = [_block(part, f"{where}[{at}]") for at, part in enumerate(parts)]
    return [block for block in said if block.get("text") != ""]


def _block(part: Body, where: str) -> Body:
    shape = part.get("type")
    if shape in ("text", "refusal"):
        block: Body = {"type": "text", "text": text(part.get(shape), f"{where}.{shape}")}
    elif shape == "image_url":
        block = {"type": "image", "source": _image_source(part, where)}
    elif shape == "file":
        block = _document(part, where)
    else:
        refuse(f"{where}.type", shape, "send text, image_url or file parts")
    if part.get("cache_control") is not None:
        block["cache_control"] = part["cache_control"]
    return block


def _image_source(part: Body, where: str) -> Body:
    image = part.get("image_url")
    url = text(image.get("url") if type(image) is dict else image, f"{where}.image_url.url")
    if url[:5].lower() != "data:":
        return {"type": "url", "url": url}
    media_type, data = _data_of(url, f"{where}.image_url.url")
    if media_type not in _IMAGES:
        refuse(f"{where}.image_url.url", media_type, "send a JPEG, PNG, GIF or WebP image")
    return {"type": "base64", "media_type": _IMAGES[media_type], "data": data}


def _document(part: Body, where: str) -> Body:
    file = part.get("file")
    if type(file) is not dict or type(file.get("file_data")) is not str:
        raise CallerError(f"{where}.file has no file_data; send the file's bytes as a data: URL")
    media_type, data = _data_of(file["file_data"], f"{where}.file.file_data")
    if media_type != "application/pdf":
        refuse(f"{where}.file.file_data", media_type, "send a PDF, or its text as a text part")
    block: Body = {
        "type": "document",
        "source": {"type": "base64", "media_type": media_type, "data": data},
    }
    if type(file.get("filename")) is str:
        block["title"] = file["filename"]
    return block


def _data_of(url: str, where: str) -> tuple[str, str]:
    """Media type and base64 of a data URL."""
    head = _DATA_URL.match(url)
    if head is None or not head[3]:
        raise CallerError(f"{where} is no base64 data: URL; write data:<media type>;base64,<bytes>")
    return (head[1] or "text/plain").lower(), url[head.end() :]


def parts(content: object, where: str) -> list[Body]:
    """Turn Anthropic content, text or blocks, into chat parts.

    >>> parts([{"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}], "c")
    [{'type': 'image_url', 'image_url': {'url': 'https://a.example/b.png'}}]
    """
    if type(content) is str:
        return [{"type": "text", "text": content}]
    said = []
    for at, block in enumerate(objects(content, where)):
        said.extend(parts_of(block, f"{where}[{at}]"))
    return said


def parts_of(block: Body, where: str) -> list[Body]:
    """Turn one Anthropic block into chat parts."""
    shape = block.get("type")
    if shape == "text":
        return [{"type": "text", "text": text(block.get("text"), f"{where}.text")}]
    source = block.get("source")
    if shape not in ("image", "document") or type(source) is not dict:
        refuse(f"{where}.type", shape, f"send text, image or document blocks, or {_OWN_MODEL}")
    if shape == "image":
        return [{"type": "image_url", "image_url": {"url": _image_url(source, where)}}]
    if source.get("type") == "text":
        return [{"type": "text", "text": text(source.get("data"), f"{where}.source.data")}]
    if source.get("type") == "content":
        return parts(source.get("content"), f"{where}.source.content")
    if source.get("type") != "base64":
        refuse(f"{where}.source.type", source.get("type"), "send the document's bytes as base64")
    name = block.get("title")
    return [
        {
            "type": "file",
            "file": {
                "filename": name if type(name) is str and name else "document.pdf",
                "file_data": _data_url(source, where),
            },
        }
    ]


def _image_url(source: Body, where: str) -> str:
    if source.get("type") == "url":
        return text(source.get("url"), f"{where}.source.url")
    if source.get("type") != "base64":
        refuse(f"{where}.source.type", source.get("type"), "send the image as base64 or by its URL")
    return _data_url(source, where)


def _data_url(source: Body, where: str) -> str:
    media_type = text(source.get("media_type"), f"{where}.source.media_type")
    return f"data:{media_type};base64,{text(source.get('data'), f'{where}.source.data')}"


def shortest(said: list[Body]) -> str | list[Body]:
    """Write one text part as plain text, which every server takes; leave other parts as they are.

    >>> shortest([{"type": "text", "text": "Hi"}]), shortest([])
    ('Hi', '')
    """
    if not said:
        return ""
    if len(said) == 1 and said[0]["type"] == "text":
        return str(said[0]["text"])
    return said
