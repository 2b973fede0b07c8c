"""What CANN's build makes of the kernels, from their preprocessed text and outside of namespaces as it does: functions
that launch them, and the structs of their tilings once more.
"""

import re

ENTRY = re.compile(r'extern "C"\s+void (\w+)\(([^)]*)\)\s*\{')
STRUCT = re.compile(r"^\s*struct (\w+) \{(.*?)\n\};", re.MULTILINE | re.DOTALL)


def entries(text):
    """The name of each entry to its parameters, each a type and a name."""
    return {name: [tuple(one.split()) for one in parameters.split(",")] for name, parameters in ENTRY.findall(text)}


def launches(text):
    """aclrtlaunch_... for every entry, which takes the address of the tiling."""
    functions = []
    for entry, parameters in entries(text).items():
        takes = ", ".join(f"{kind if kind.endswith('*') else f'{kind}*'} {name}" for kind, name in parameters)
        gives = ", ".join(name if kind.endswith("*") else f"*{name}" for kind, name in parameters)
        functions.append(f"""
extern "C" uint32_t aclrtlaunch_{entry}(uint32_t cores, void* stream, {takes}) {{
  auto& memory = *static_cast<const std::vector<AscendC::emulator::Range>*>(stream);
  AscendC::emulator::launch("{entry}", cores, memory, [&] {{ {entry}({gives}); }});
  return 0;
}}
""")
    return "".join(functions)


def restated(text):
    """The tilings' structs with those that they are made of: their names in order, and their text."""
    structs = {match[1]: match for match in STRUCT.finditer(text)}
    needed = {}

    def need(name):
        if name not in structs or name in needed:
            return
        for member in structs[name][2].split(";"):
            need(member.split()[0] if member.split() else "")
        needed[name] = structs[name][0].strip()

    for parameters in entries(text).values():
        for kind, _ in parameters:
            need(kind)
    return list(needed), "\n".join(needed.values())
