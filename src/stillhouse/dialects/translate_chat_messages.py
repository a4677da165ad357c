"""Says a chat completion request as an Anthropic Messages request."""

from __future__ import annotations

from types import MappingProxyType

from stillhouse.dialects.translate_chat_turns import in_tool_loop_without_thinking, system_and_turns
from stillhouse.dialects.translate_json import (
    Body,
    Fields,
    an_object,
    dump,
    load,
    names,
    number,
    objects,
    refuse,
    text,
)
from stillhouse.dialects.translate_models import (
    DEFAULT_MAX_TOKENS,
    LEAST_BUDGET,
    THINKING_BUDGETS,
    traits,
)

_OWN = "use a model that speaks the chat format itself"

FIELDS = Fields(
    translated=names(
        "messages model stream stream_options max_tokens max_completion_tokens "
        "temperature top_p top_k stop tools tool_choice parallel_tool_calls "
        "response_format reasoning_effort user safety_identifier service_tier thinking "
        "output_config cache_control n logprobs modalities"
    ),
    dropped=MappingProxyType(
        {
            "frequency_penalty": "Anthropic has no counterpart",
            "presence_penalty": "Anthropic has no counterpart",
            "seed": "sampling cannot be fixed there; OpenAI calls it best effort too",
            "prediction": "only makes an answer faster",
            "prompt_cache_key": "only steers OpenAI's own cache",
            "prompt_cache_options": "only steers OpenAI's own cache",
            "prompt_cache_retention": "only steers OpenAI's own cache",
            "metadata": "labels for OpenAI's own dashboard; this endpoint reads its tags from it",
            "store": "keeps the answer at OpenAI; nothing is kept there",
            "verbosity": "a hint without a counterpart",
            "reasoning": "a vendor's hint on how to show reasoning",
        }
    ),
    refused=MappingProxyType(
        {
            "top_logprobs": f"leave it out, or {_OWN}",
            "logit_bias": f"leave it out, or {_OWN}",
            "functions": "send them as `tools`",
            "function_call": "send it as `tool_choice`",
            "audio": f"ask for text, or {_OWN}",
            "web_search_options": f"leave it out, or {_OWN}",
            "moderation": f"leave it out, or {_OWN}",
        }
    ),
)
"""What becomes of each field of a chat request; docs/reference/translation.md says it in words."""

_EFFORTS = {"minimal": "low"}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_TIERS = {"auto": "auto", "default": "standard_only"}


def request(body: bytes, model: str) -> bytes:
    """Translate a chat request, to be answered by `model`.

    >>> request(b'{"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}', "claude-x")
    b'{"model":"claude-x","max_tokens":16384,"messages":[{"role":"user","content":"Hi"}]}'
    """
    asked = load(body, "the request")
    FIELDS.check(asked)
    _check_values(asked)
    system, turns = system_and_turns(asked.get("messages"))
    said: Body = {"model": model, "max_tokens": _limit(asked), "messages": turns}
    if system:
        said["system"] = system
    if asked.get("stream"):
        said["stream"] = True
    if (sequences := _stop_sequences(asked.get("stop"))) is not None:
        said["stop_sequences"] = sequences
    _put_tools(asked, said)
    _put_format(asked, said)
    _put_thinking(asked, said, model)
    _put_sampling(asked, said, model)
    _put_caller(asked, said)
    return dump(said)


def _check_values(asked: Body) -> None:
    if asked.get("n") not in (None, 1):
        refuse("n", asked["n"], "ask once for each answer")
    if asked.get("logprobs"):
        refuse("logprobs", asked["logprobs"], f"leave it out, or {_OWN}")
    if asked.get("modalities") not in (None, ["text"]):
        refuse("modalities", asked["modalities"], f'ask for ["text"], or {_OWN}')


def _limit(asked: Body) -> int | float:
    for name in ("max_completion_tokens", "max_tokens"):
        if asked.get(name) is not None:
            return number(asked[name], name)
    return DEFAULT_MAX_TOKENS


def _stop_sequences(stop: object) -> list[str] | None:
    if stop is None or stop == []:
        return None
    if type(stop) is str:
        return [stop]
    if type(stop) is not list or not all(type(sequence) is str for sequence in stop):
        refuse("stop", stop, "send a text or a list of texts")
    return stop


def _put_tools(asked: Body, said: Body) -> None:
    tools = objects(asked["tools"], "tools") if asked.get("tools") else []
    choice = asked.get("tool_choice")
    allowed = None
    if type(choice) is dict and choice.get("type") == "allowed_tools":
        among = an_object(choice.get("allowed_tools"), "tool_choice.allowed_tools")
        named = objects(among.get("tools"), "tool_choice.allowed_tools.tools")
        allowed = {_tool_name(tool, "tool_choice.allowed_tools.tools") for tool in named}
        choice = among.get("mode", "auto")
    if not tools:
        return
    translated = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(tools)]
    said["tools"] = [tool for tool in translated if allowed is None or tool["name"] in allowed]
    if type(choice) is str and choice in _CHOICES:
        chosen: Body = {"type": _CHOICES[choice]}
    elif choice is None:
        chosen = {"type": "auto"}
    elif type(choice) is dict and choice.get("type") == "function":
        chosen = {"type": "tool", "name": _tool_name(choice, "tool_choice")}
    else:
        refuse("tool_choice", choice, "use auto, none, required, allowed_tools or a function")
    if asked.get("parallel_tool_calls") is False and chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = True
    if chosen != {"type": "auto"} or choice == "auto":
        said["tool_choice"] = chosen


def _tool_name(tool: Body, where: str) -> str:
    return text(an_object(tool.get("function"), f"{where}.function").get("name"), f"{where}.name")


def _tool(tool: Body, where: str) -> Body:
    if tool.get("type") != "function":
        refuse(f"{where}.type", tool.get("type"), f"offer it as a function, or {_OWN}")
    function = an_object(tool.get("function"), f"{where}.function")
    schema = function.get("parameters")
    schema = {} if schema is None else an_object(schema, f"{where}.function.parameters")
    said: Body = {
        "name": text(function.get("name"), f"{where}.function.name"),
        "input_schema": schema if "type" in schema else {"type": "object", **schema},
    }
    if function.get("description") is not None:
        said["description"] = text(function["description"], f"{where}.function.description")
    if type(function.get("strict")) is bool:
        said["strict"] = function["strict"]
    if tool.get("cache_control") is not None:
        said["cache_control"] = tool["cache_control"]
    return said


def _put_format(asked: Body, said: Body) -> None:
    if asked.get("output_config") is not None:
        said["output_config"] = dict(an_object(asked["output_config"], "output_config"))
    wanted = asked.get("response_format")
    if wanted is None:
        return
    shape = an_object(wanted, "response_format").get("type")
    if shape == "text":
        return
    if shape != "json_schema":
        refuse("response_format.type", shape, "send the wanted shape as json_schema")
    form = an_object(wanted.get("json_schema"), "response_format.json_schema")
    schema = an_object(form.get("schema"), "response_format.json_schema.schema")
    said.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}


def _put_thinking(asked: Body, said: Body, model: str) -> None:
    """Say how much to think, unless a forced tool or an unfinished turn makes it a 400 there."""
    if asked.get("thinking") is not None:
        said["thinking"] = asked["thinking"]
        return
    effort = asked.get("reasoning_effort")
    if effort is None:
        return
    if effort not in ("none", *THINKING_BUDGETS):
        refuse("reasoning_effort", effort, f"use none, {', '.join(THINKING_BUDGETS)}")
    if effort == "none":
        said["thinking"] = {"type": "disabled"}
        return
    forced = said.get("tool_choice", {}).get("type") in ("any", "tool")
    if traits(model).adaptive:
        if not forced:
            said["thinking"] = {"type": "adaptive"}
        said.setdefault("output_config", {}).setdefault("effort", _EFFORTS.get(effort, effort))
        return
    # Half of the limit is left for the answer: OpenAI's limit too covers thought and answer.
    budget = min(THINKING_BUDGETS[effort], int(said["max_tokens"] // 2))
    if (
        budget >= LEAST_BUDGET
        and not forced
        and not in_tool_loop_without_thinking(said["messages"])
    ):
        said["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _put_sampling(asked: Body, said: Body, model: str) -> None:
    """Pass sampling on where the model takes it; one that thinks by a budget does not either."""
    given = {
        name: asked[name]
        for name in ("temperature", "top_p", "top_k")
        if asked.get(name) is not None
    }
    for name, value in given.items():
        number(value, name)
    thinks = type(said.get("thinking")) is dict and said["thinking"].get("type") != "disabled"
    if not traits(model).sampling or thinks:
        return
    if "temperature" in given:
        given["temperature"] = min(max(given["temperature"], 0), 1)
    said.update(given)


def _put_caller(asked: Body, said: Body) -> None:
    user = asked.get("user") or asked.get("safety_identifier")
    if user:
        said["metadata"] = {"user_id": text(user, "user")}
    if asked.get("service_tier") in tuple(_TIERS):
        said["service_tier"] = _TIERS[asked["service_tier"]]
    if asked.get("cache_control") is not None:
        said["cache_control"] = asked["cache_control"]
