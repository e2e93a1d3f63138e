#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Templates and catalogues of the LuCI pages.

`po.py` writes po/templates/NAME.pot of each app from the _('…') of its views, of what the apps share and of its menu,
and brings po/*/NAME.po in line with it: known translations stay (one of another app is taken over), what is gone goes.
`po.py --check` says what is not up to date or not translated, and exits with 1 if anything is.
"""

import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
LIBRARY = HERE / "luci-lib-steadynode"
CALL = re.compile(r"(?<![\w$.])_\(\s*('(?:[^'\\\n]|\\.)*')\s*\)")
ANY_CALL = re.compile(r"(?<![\w$.])_\(")
PLACEHOLDER = re.compile(r"%%|%[-0-9.]*[a-zA-Z]")


def main():
    check = "--check" in sys.argv[1:]
    complaints = []
    apps = sorted(path for path in HERE.glob("luci-app-*") if path.is_dir())
    catalogues = {app: sorted(app.glob("po/*/*.po")) for app in apps}
    known = {}
    for paths in catalogues.values():
        for path in paths:
            for text, translation in read(path).items():
                if translation:
                    known.setdefault(path.parent.name, {}).setdefault(text, translation)
    for app in apps:
        texts = collect(app, complaints)
        name = app.name.removeprefix("luci-app-")
        put(app / "po" / "templates" / f"{name}.pot", render("", texts, {}), check, complaints)
        for path in catalogues[app]:
            language = path.parent.name
            own = {**known.get(language, {}), **{text: done for text, done in read(path).items() if done}}
            put(path, render(language, texts, own), check, complaints)
            for text in texts:
                translation = own.get(text, "")
                if not translation:
                    complaints.append(f"{relative(path)}: not translated: {text}")
                elif sorted(PLACEHOLDER.findall(text)) != sorted(PLACEHOLDER.findall(translation)):
                    complaints.append(f"{relative(path)}: other placeholders than in: {text}")
                elif known[language].get(text) != translation:
                    complaints.append(f"{relative(path)}: translated in another way elsewhere: {text}")
    for complaint in complaints:
        print(f"po: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


def collect(app, complaints):
    """Texts in the order of their first place, each with its places."""
    texts = {}
    for root in (app, LIBRARY):
        for path in sorted(root.glob("htdocs/**/*.js")):
            source = path.read_text(encoding="utf-8")
            calls = list(CALL.finditer(source))
            if len(calls) != len(ANY_CALL.findall(source)):
                complaints.append(f"{relative(path)}: a _() without one literal text in single quotes")
            for call in calls:
                line = source.count("\n", 0, call.start()) + 1
                texts.setdefault(unquote(call.group(1)), []).append(f"{relative(path)}:{line}")
    for path in sorted(app.glob("root/usr/share/luci/menu.d/*.json")) + sorted(app.glob("root/usr/share/rpcd/acl.d/*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8")).values():
            for key in ("title", "description"):
                if key in entry:
                    texts.setdefault(entry[key], []).append(str(relative(path)))
    return texts


def unquote(literal):
    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", lambda found: chr(int(found[1][1:], 16)) if len(found[1]) > 1 else found[1], literal[1:-1])


def render(language, texts, translations):
    head = 'Content-Type: text/plain; charset=UTF-8\\n'
    lines = ["msgid \"\"", f"msgstr \"{head}\""]
    if language:
        lines = ["msgid \"\"", "msgstr \"\"", f"\"Language: {language}\\n\"", f"\"{head}\"", "\"Plural-Forms: nplurals=2; plural=n != 1;\\n\""]
    for text, places in sorted(texts.items()):
        lines.append("")
        # Lines move with every edit; files seldom do.
        lines += [f"#: {place}" for place in sorted({place.split(":")[0] for place in places})]
        lines += [f"msgid {quote(text)}", f"msgstr {quote(translations.get(text, ''))}"]
    return "\n".join(lines) + "\n"


def quote(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def read(path):
    """msgid → msgstr of a catalogue."""
    entries, target, current = {}, None, {}
    for line in path.read_text(encoding="utf-8").splitlines() + ["msgid \"\""]:
        keyword, _, rest = line.partition(" ")
        if keyword == "msgid":
            if current.get("msgid"):
                entries[current["msgid"]] = current.get("msgstr", "")
            current = {}
        if keyword in ("msgid", "msgstr"):
            target = keyword
            current[target] = parse(rest)
        elif line.startswith('"') and target:
            current[target] += parse(line)
    return entries


def parse(literal):
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], literal.strip()[1:-1])


def put(path, text, check, complaints):
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    if check:
        complaints.append(f"{relative(path)}: not up to date: run luci-apps/po.py")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def relative(path):
    return path.relative_to(HERE)


if __name__ == "__main__":
    sys.exit(main())
