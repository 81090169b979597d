"""What a program has printed, made fit for the policy to read."""
import re


def portable(text: str) -> str:
    """`text` without what differs from machine to machine: folders of libraries, addresses of objects."""
    text = re.sub(r'(File ")[^"\n]*/(?:site-packages|dist-packages|python3\.\d+)/', r"\1", text)
    return re.sub(r"\bat 0x[0-9a-fA-F]+>", "at 0x...>", text)


def cut(text: str, limit: int, head: float) -> str:
    """At most about `limit` characters: the first, the last, and between them how many are missing. head: the
    share of the first ones, 0 to 1."""
    if len(text) <= limit:
        return text
    room = max(limit - 40, 40)
    first = int(room * head)
    middle = f"... [{len(text) - room} characters cut] ..."
    return "\n".join(part for part in (text[:first], middle, text[first - room:]) if part)
