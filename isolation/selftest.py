"""What `python sandbox.py` does: shows which layers this machine has, and attacks each of them."""
import os
import socket
import tempfile

from isolation.worker import ROOT

# Each prints ESCAPED if it gets through; {pid} is the trainer, {port} a listener, {folder} one outside.
ATTACKS = {
    "list the root folder": "import os; os.listdir('/'); print('ESCAPED')",
    "read the checkout": "open({checkout!r} + '/sandbox.py').read(); print('ESCAPED')",
    "read the trainer's environment": "open('/proc/{pid}/environ', 'rb').read(); print('ESCAPED')",
    "write outside its folder": "open({folder!r} + '/x', 'w'); print('ESCAPED')",
    "connect to this machine": "import socket; socket.create_connection(('', {port})); print('ESCAPED')",
    "start a process": "import os; os.fork(); print('ESCAPED')",
    "signal the trainer": "import os; os.kill({pid}, 0); print('ESCAPED')",
    "signal the worker": "import os; os.kill(os.getppid(), 0); print('ESCAPED')",
    "take 2 GB of memory": "x = bytearray(2 << 30); print('ESCAPED')",
    "write a file of 100 MB": "open('x', 'wb').write(bytes(100 << 20)); print('ESCAPED')",
    "run for a minute": "import time; time.sleep(60); print('ESCAPED')",
    "print without end": "while True: print('x' * 1000)",
}


def passes(box, promises: dict[str, str]) -> bool:
    """Print the layers of this sandbox and what becomes of every attack. False if one got through."""
    for name, state in box.layers.items():
        print(f"{name:12} {'active' if state is True else 'MISSING':8} {promises[name]}")
        if state is not True:
            print(f"{'':21} because: {state}")
    print()
    held = True
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryDirectory() as folder:
        targets = {"checkout": ROOT, "pid": os.getpid(), "port": listener.getsockname()[1], "folder": folder}
        for name, attack in ATTACKS.items():
            result = box.run(attack.format(**targets), timeout=0.5)
            escaped = "ESCAPED" in result.stdout or result.ok
            held = held and not escaped
            print(f"{name:32} {'GOT THROUGH' if escaped else 'stopped: ' + result.status}")
    harmless = box.run("print(2 + 2)")
    print(f"{'print(2 + 2)':32} {harmless.for_model()!r} in {1000 * harmless.seconds:.1f} ms")
    return held and harmless.stdout == "4\n"
