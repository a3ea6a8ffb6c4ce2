"""A headless Chromium, driven through its DevTools protocol over a pipe: nothing but Python and the browser is needed."""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time

COMMAND = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
           "--remote-debugging-pipe", "about:blank"]


def find_chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise SystemExit("no chromium: apt-get install chromium")


class Browser:
    """One browser process; `page()` opens a page in it."""

    def __enter__(self):
        self.profile = tempfile.mkdtemp(prefix="quorate-browser-")
        (to_read, self.to), (self.back, to_write) = os.pipe(), os.pipe()

        def wire():
            # Out of the way of the numbers that the browser wants.
            a, b = os.dup(to_read), os.dup(to_write)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen([find_chromium(), "--user-data-dir=" + self.profile] + COMMAND, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False, preexec_fn=wire)
        os.close(to_read)
        os.close(to_write)
        self.number, self.rest, self.listeners = 0, b"", {}
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.to)
        os.close(self.back)
        shutil.rmtree(self.profile, ignore_errors=True)

    def page(self, width=1280, height=900, dark=False):
        return Page(self, width, height, dark)

    def call(self, method, session=None, **params):
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for answer in self.read(0.5):
                if answer.get("id") == number:
                    if "error" in answer:
                        raise AssertionError("%s: %s" % (method, answer["error"]))
                    return answer["result"]
        raise AssertionError("the browser does not answer %s" % method)

    def read(self, patience):
        """What has arrived; events go to whoever listens to their page."""
        if not select.select([self.back], [], [], patience)[0]:
            return []
        self.rest += os.read(self.back, 1 << 20)
        *whole, self.rest = self.rest.split(b"\0")
        messages = [json.loads(message) for message in whole]
        for message in messages:
            if listener := self.listeners.get(message.get("sessionId")):
                listener(message)
        return messages


class Page:
    """A page, and what went wrong in it."""

    def __init__(self, browser, width, height, dark):
        self.browser, self.problems = browser, []
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        browser.listeners[self.session] = self.hear
        for domain in ("Runtime", "Log", "Page", "DOM"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.listeners.pop(self.session)
        self.browser.call("Target.closeTarget", targetId=self.target)

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def hear(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append("%(text)s %(url)s" % {"url": "", **params["entry"]})
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.problems.append(str([argument.get("value") for argument in params["args"]]))

    def go(self, url):
        self.call("Page.navigate", url=url)

    def run(self, script):
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise AssertionError("%s: %s" % (script, result["exceptionDetails"].get("exception", {}).get("description")))
        return result["result"].get("value")

    def wait(self, what, script, seconds=15.0):
        """Waits until an expression is true; returns it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run("((value) => (value instanceof Node ? true : value))(%s)" % script):
                return value
            time.sleep(0.05)
        raise AssertionError("%s did not happen within %.0f s; the page says: %s" % (what, seconds, self.run("document.body.innerText.slice(0, 600)")))

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if len(key) == 1 else "")
