"""The official OpenAI SDK as a customer: `openai_sdk.py GATEWAY BASE_URL MODEL SCENARIO...`. Prints what it has seen."""

import json
import sys

import httpx2
import openai
from mpp_auth import play

gateway, base_url, MODEL, *names = sys.argv[1:]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def client(transport, retries=0):
    http = httpx2.Client(transport=transport, timeout=30)
    return openai.OpenAI(api_key="sk-of-the-client", base_url=base_url, http_client=http, max_retries=retries)


def asks(text):
    return [{"role": "user", "content": text}]


def answered(completion):
    choice = completion.choices[0]
    return {"text": choice.message.content, "stop": choice.finish_reason, "usage": completion.usage.to_dict()}


def complete(transport):
    return answered(client(transport).chat.completions.create(model=MODEL, messages=asks("hello")))


def stream(transport):
    text, stop, usage, events = "", None, None, 0
    options = {"include_usage": True}
    with client(transport).chat.completions.create(
        model=MODEL, messages=asks("hello"), stream=True, stream_options=options
    ) as chunks:
        for chunk in chunks:
            events += 1
            usage = chunk.usage.to_dict() if chunk.usage else usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                stop = choice.finish_reason or stop
    return {"text": text, "stop": stop, "usage": usage, "events": events}


def tools(transport):
    messages = asks("what is the weather?")
    first = client(transport).chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    [call] = first.choices[0].message.tool_calls
    messages.append(first.choices[0].message.to_dict())
    messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps({"celsius": 21})})
    second = client(transport).chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    return {"called": [call.function.name, json.loads(call.function.arguments)], **answered(second)}


def failed(transport, text, model=MODEL, **more):
    """The error that the SDK raises."""
    try:
        answer = client(transport).chat.completions.create(model=model, messages=asks(text), **more)
        for _ in answer if more.get("stream") else []:
            pass
    except openai.APIStatusError as error:
        headers = error.response.headers
        return {
            "error": type(error).__name__,
            "status": error.status_code,
            "message": error.message,
            "outcome": headers.get("payment-outcome"),
            "type": headers.get("content-type"),
            "challenged": "www-authenticate" in headers,
        }
    except (openai.APIConnectionError, httpx2.HTTPError) as error:
        return {"error": type(error).__name__}
    return {"error": None}


def rate_limited(transport):
    return failed(transport, "too much")


def unknown_model(transport):
    return failed(transport, "hello", model="unknown")


def retried(transport):
    return answered(client(transport, retries=2).chat.completions.create(model=MODEL, messages=asks("busy at first")))


def left_early(transport):
    with client(transport).chat.completions.create(model=MODEL, messages=asks("a long story"), stream=True) as chunks:
        first = next(iter(chunks))
    return {"role": first.choices[0].delta.role}


def cut(transport):
    return failed(transport, "breaks off", stream=True)


known = {complete, stream, tools, rate_limited, unknown_model, retried, left_early, cut}
json.dump(play(gateway, {scenario.__name__: scenario for scenario in known}, names), sys.stdout)
