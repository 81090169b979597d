"""What `python sandbox.py` does: shows which layers this machine has, and attacks each of them."""
import os
import socket
import tempfile

from isolation.worker import ROOT

# Each must not reach its end; {pid} is the trainer, {port} a listener, {folder} one outside.
ATTACKS = {
    "list the root folder": "import os; os.listdir('/')",
    "read the checkout": "open({checkout!r} + '/sandbox.py').read()",
    "write outside its folder": "open({folder!r} + '/x', 'w')",
    "connect to this machine": "import socket; socket.create_connection(('', {port}))",
    "start a process": "import os; os.fork()",
    "signal the trainer": "import os; os.kill({pid}, 0)",
    "take 2 GB of memory": "x = bytearray(2 << 30)",
    "run for a minute": "import time; time.sleep(60)",
    "print without end": "while True: print('x' * 1000)",
}


def passes(box, promises: dict[str, str]) -> bool:
    """Print the layers of this sandbox and what becomes of every attack. False if one got through."""
    for name, state in box.layers.items():
        print(f"{name:12} {'active' if state is True else 'MISSING':8} {promises[name]}"
              + (f"\n{'':21} because: {state}" if state is not True else ""))
    print()
    held = True
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryDirectory() as folder:
        targets = {"checkout": ROOT, "pid": os.getpid(), "port": listener.getsockname()[1], "folder": folder}
        for name, attack in ATTACKS.items():
            result = box.run(attack.format(**targets) + "\nprint('ESCAPED')", timeout=0.5)
            held = held and not result.ok
            print(f"{name:32} {'GOT THROUGH' if result.ok else 'stopped: ' + result.status}")
    harmless = box.run("print(2 + 2)")
    print(f"{'print(2 + 2)':32} {harmless.for_model()!r} in {1000 * harmless.seconds:.1f} ms")
    return held and harmless.stdout == "4\n"
