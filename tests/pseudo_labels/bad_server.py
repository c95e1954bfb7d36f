"""A server with an OpenAI-compatible API that misbehaves as it is told, line by line."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-secret-of-the-test"


class BadServer(ThreadingHTTPServer):
    """Translates into upper case. Words in a line make it misbehave, once or always, as `Handler` says."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies, self.keys, self.seen = [], [], Counter()
        self.lock = threading.Lock()
        self.working = self.most_working = 0
        self.needs_key = False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        line = body["messages"][-1]["content"].rsplit("\n", 1)[-1]
        with server.lock:
            server.bodies.append(body)
            server.keys.append(self.headers.get("Authorization"))
            server.seen[line, body.get("seed")] += 1
            first = server.seen[line, body.get("seed")] == 1
            server.working += 1
            server.most_working = max(server.most_working, server.working)
        try:
            if server.needs_key and self.headers.get("Authorization") != f"Bearer {KEY}":
                self.say(401, {"error": f"wrong key {self.headers.get('Authorization')}"})
            else:
                self.answer(line, body, first)
        except (BrokenPipeError, ConnectionResetError):  # the client has waited long enough
            pass
        finally:
            with server.lock:
                server.working -= 1

    def answer(self, line, body, first):
        words = set(line.split())
        if "busy" in words and first:
            self.say(429, {"error": "slow down"}, {"Retry-After": "²" if "odd" in words else "0"})
        elif "broken" in words or ("shaky" in words and first):
            self.say(500, {"error": "out of memory"})
        elif "limited" in words and first:
            self.say(200, {"error": {"message": "slow down", "code": 429}})
        elif "upstream" in words and first:
            self.say(200, {"choices": [{"error": {"code": "overloaded"}, "message": {"content": ""}}]})
        elif "refused" in words:
            self.say(400, {"error": "content policy"})
        elif "flagged" in words:
            self.say(403, {"error": "content policy"})
        elif "moved" in words:
            self.say(302, {}, {"Location": "http://127.0.0.1:9/v1"})
        elif "torn" in words and first:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [{"mess')
            self.close_connection = True
        elif "slow" in words and first:
            time.sleep(1.0)
            self.say(200, self.completion("too late"))
        elif "drop" in words and first:
            self.close_connection = True
            self.connection.close()
        elif "page" in words and first:
            self.say(200, "<html>")
        elif "empty" in words:
            self.say(200, {"choices": []})
        else:
            self.say(200, self.completion(line, words, body))

    @staticmethod
    def completion(line, words=(), body=None):
        text = f"<translation>{line.upper()}</translation>"
        if "chatty" in words:
            text = f"<think>Is it <translation>x</translation>?</think> Sure! Here it is:\n\n{text}\nAnything else?"
        if "quoting" in words:
            text = f"So I write it after <translation>.\n\n{text}"
        if "thoughtful" in words:
            text = f"<think>It stands between <translation> and </translation>.</think>\n\n{line.upper()}"
        if "chatty_alone" in words:
            text = f"Here is the translation:\n{line.upper()}"
        if "halved" in words:
            text = f"<translation>{line.upper()}\ud83d</translation>"
        if "sampled" in words:
            text = f"<translation>{line.upper()} {body['seed'] % 1000}</translation>"
        reason = "length" if "long" in words else "content_filter" if "filtered" in words else "stop"
        text = text[:-5] if "long" in words else text
        if "parts" in words:
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": "<translation>x</translation>"}]}
            text = [thought, {"type": "text", "text": text}]
        usage = {} if "unmetered" in words else {"usage": {"prompt_tokens": 10, "completion_tokens": 5}}
        return {"choices": [{"message": {"content": text}, "finish_reason": reason}], **usage}

    def say(self, status, body, headers=None):
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def bad_server():
    """Yields a server that runs in a thread."""
    with BadServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
