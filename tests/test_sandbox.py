"""Templates that never end, fill the memory or access Python's internals are refused quickly, with a clear message."""

import time

import pytest

from verbatim.reference.records.errors import ModelError, RequestError
from verbatim.reference.text.sandbox import MAX_WORK, Sandbox
from verbatim.reference.text.template import ChatTemplate

MESSAGES = [{"role": "user", "content": "hi " * 300}]
TOO_MUCH, TOO_DEEP, TOO_WIDE = f"more than {MAX_WORK} steps of work", "calls itself too deeply", "wider than 999"
UNSAFE = "unsafe"


def times(count, body):
    return f"{{% for i in range({count}) %}}{body}{{% endfor %}}"


def grown(step, end, start="x=['a'], y=['a']"):
    """A namespace `n` whose x (and y) is doubled sixty times, then `end`."""
    return f"{{% set n = namespace({start}) %}}" + times(60, step) + end


PAIRS = "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}"
HOSTILE = {
    # iterations
    "nested loops of 10^12 rounds": (times(10**4, times(10**4, times(10**4, ""))), TOO_MUCH),
    "rounds that a filter leaves out": (times(99999, "{% for b in range(99999) if false %}{% endfor %}"), TOO_MUCH),
    "a recursive loop": (
        "{% for x in range(9999) recursive %}{% if loop.depth < 8 %}{{ loop(range(9999)) }}{% endif %}{% endfor %}",
        TOO_MUCH,
    ),
    "a huge range": (times(10**12, ""), "Range too big"),
    "a loop with a long body": (times(99999, "{% set x = 1 %}" * 2000), TOO_MUCH),
    "a loop with much text": (times(99999, "x" * 20000), TOO_MUCH),
    "a macro with much text": (
        "{% macro f() %}" + "x" * 20000 + "{% endmacro %}" + times(99999, "{% set y = f() %}"), TOO_MUCH,
    ),
    "lazy filters in a loop": (times(99999, "{{ range(99999)|map('string')|map('upper')|list|length }}"), TOO_MUCH),
    # recursion
    "a macro without an end": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", TOO_DEEP),
    "a macro that branches": (
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}", TOO_MUCH,
    ),
    "a block within itself": ("{% block a %}{{ self.a() }}{% endblock %}", TOO_DEEP),
    "callers of callers": (
        "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}" + "{% call f() %}" * 40 + "{% endcall %}" * 40,
        TOO_MUCH,
    ),
    "deep JSON": (
        "{% set n = namespace(x=[]) %}" + times(9999, "{% set n.x = [n.x] %}") + "{{ n.x|tojson }}", TOO_DEEP,
    ),
    # giant strings and lists
    "a string times a number": ("{{ 'a' * 10**10 }}", TOO_MUCH),
    "a number times a string": ("{{ 10**10 * 'a' }}", TOO_MUCH),
    "a list times a number": ("{% set x = [1] * 10**10 %}", TOO_MUCH),
    "center": ("{{ 'a'|center(10**10) }}", TOO_MUCH),
    "center of constants": ("{{ 'a'|center(10000000000) }}", TOO_MUCH),
    "ljust": ("{{ 'a'.ljust(10**10) }}", TOO_MUCH),
    "zfill": ("{{ 'a'.zfill(10**10) }}", TOO_MUCH),
    "indent": ("{{ 'a\\nb'|indent(10**10) }}", TOO_MUCH),
    "JSON's indent": ("{{ [1]|tojson(indent=10**10) }}", TOO_MUCH),
    "batch": ("{{ [1]|batch(10**10, 1)|list }}", TOO_MUCH),
    "slice": ("{{ [1]|slice(10**10)|list }}", TOO_MUCH),
    "wordwrap": ("{{ ('a ' * 99999)|wordwrap(1, wrapstring='b' * 99999) }}", TOO_MUCH),
    "a wide format": ("{{ '%10000000000d' % 1 }}", TOO_WIDE),
    "a wide format filter": ("{{ '%10000000000d'|format(1) }}", TOO_WIDE),
    "a format of any width": ("{{ '%*d' % (10**10, 1) }}", TOO_WIDE),
    "a wide field": ("{{ '{:10000000000}'.format(1) }}", TOO_WIDE),
    "a field of any width": ("{{ '{:{w}}'.format(1, w=10**9) }}", TOO_WIDE),
    "a wide field of a map": ("{{ '{x:9999999999}'.format_map({'x': 1}) }}", TOO_WIDE),
    "a date with a width": ("{{ strftime_now('%999999999d') }}", "a date may not have a width"),
    "join of one string many times": ("{% set s = 'a' * 99999 %}{{ ([s] * 9999)|join }}", TOO_MUCH),
    "join with a long string": ("{{ range(99999)|join('a' * 99999) }}", TOO_MUCH),
    "join of letters": ("{% set s = 'a' * 999999 %}{{ s.join('b' * 999999) }}", TOO_MUCH),
    "replace": ("{% set s = 'a' * 999999 %}{{ s.replace('a', s) }}", TOO_MUCH),
    "the filter replace": ("{% set s = 'a' * 999999 %}{{ s|replace('', s) }}", TOO_MUCH),
    "split": ("{{ (' a' * 999999).split()|length }}", TOO_MUCH),
    "slices of a string": ("{% set x = 'a' * 999999 %}" + times(99999, "{% set y = x[1:] %}"), TOO_MUCH),
    "slices of a list": ("{% set x = range(9999)|list %}" + times(99999, "{% set y = x[1:] %}"), TOO_MUCH),
    "a sum of lists": ("{{ ([[1] * 99] * 99)|sum(start=[])|length }}", "sum begins with a number"),
    "translate": ("{{ 'aaa'.translate({97: 'b' * 99999}) }}", "translate is not a method"),
    "expandtabs": ("{{ '\\t'.expandtabs(10**10) }}", "expandtabs is not a method"),
    "to_bytes": ("{{ (1).to_bytes(10**10, 'big') }}", "to_bytes is not a method"),
    "lipsum": ("{{ lipsum(n=10**9) }}", "'lipsum' is undefined"),
    # doubling
    "x ~ x": (grown("{% set n.x = n.x ~ n.x %}", "{{ n.x }}", "x='a'"), TOO_MUCH),
    "x + x": (grown("{% set n.x = n.x + n.x %}", "{{ n.x }}", "x='a'"), TOO_MUCH),
    "lists x + x": (grown("{% set n.x = n.x + n.x %}", ""), TOO_MUCH),
    "a block of output twice": (
        grown("{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}", "", "x='aaaaaaaa'"), TOO_MUCH,
    ),
    "billion laughs": (grown(PAIRS, "{{ n.x }}"), TOO_MUCH),
    "billion laughs as JSON": (grown(PAIRS, "{{ n.x|tojson }}"), TOO_MUCH),
    "billion laughs in a dictionary": (grown("{% set n.x = {'a': n.x, 'b': n.x} %}", "{{ n.x|string }}"), TOO_MUCH),
    "billion laughs compared": (grown(PAIRS, "{{ n.x == n.y }}"), TOO_MUCH),
    "billion laughs in a chain": (grown(PAIRS, "{{ n.x == n.y != 1 }}"), TOO_MUCH),
    "billion laughs by a test": (grown(PAIRS, "{{ n.x is eq(n.y) }}"), TOO_MUCH),
    "billion laughs selected": (grown(PAIRS, "{{ n.x|select('eq', n.y[0])|list }}"), TOO_MUCH),
    "billion laughs sorted": (grown(PAIRS, "{{ [n.x, n.y]|sort }}"), TOO_MUCH),
    "billion laughs in namespaces": (
        grown("{% set n.x = namespace(a=n.x, b=n.x) %}", "{{ n.x }}"), "a namespace has no text",
    ),
    # searching again and again
    "in a list": ("{% set x = range(9999)|list %}" + times(99999, "{{ -i in x }}"), TOO_MUCH),
    "in a string": ("{% set x = 'a' * 999999 %}" + times(99999, "{{ (i ~ 'b') in x }}"), TOO_MUCH),
    "loop.changed": ("{% set x = range(9999)|list %}" + times(99999, "{{ loop.changed(x) }}"), TOO_MUCH),
    # numbers
    "a power of powers": ("{{ 10**(10**10) }}", "a whole number has more than 1024 bits"),
    "squares of squares": (grown("{% set n.x = n.x * n.x %}", "", "x=3"), "a whole number has more than 1024 bits"),
    "rounding to many places": ("{{ 1.5|round(10**10, 'floor') }}", TOO_MUCH),
    "division by zero": ("{{ 1 // 0 }}", "division"),
    # out of the sandbox
    "a class": ("{{ ''.__class__.__mro__ }}", UNSAFE),
    "a class by format": ("{{ '{0.__class__.__mro__}'.format('') }}", UNSAFE),
    "globals of a function": ("{{ raise_exception.__globals__.os }}", UNSAFE),
    "globals of a class": ("{{ cycler.__init__.__globals__ }}", UNSAFE),
    "globals of the template": ("{{ self.__init__.__globals__ }}", UNSAFE),
    "a dangerous method": ("{{ messages.clear() }}", UNSAFE),
    "another file": ("{% include '/etc/passwd' %}", "no loader"),
    "a module": ("{% import 'os' as os %}", "no loader"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_within_a_second_with_a_clear_message(name):
    source, words = HOSTILE[name]
    template = ChatTemplate(source, {})
    start = time.process_time()
    with pytest.raises(RequestError, match="chat template") as refused:
        template.render(MESSAGES)
    assert time.process_time() - start < 1
    assert words in str(refused.value)
    assert refused.value.field == "messages"
    assert len(str(refused.value)) < 600


def test_the_next_rendering_starts_anew():
    template = ChatTemplate("{% for i in range(messages[0].content|int) %}x{% endfor %}", {})
    for _ in range(3):
        assert template.render([{"role": "user", "content": "3000"}]) == ["x" * 3000]
        with pytest.raises(RequestError, match=TOO_MUCH):
            ChatTemplate(times(99999, times(99999, "")), {}).render(MESSAGES)


@pytest.mark.parametrize("source", ["{{ ((((" * 500, "{% if a %}" * 3000 + "{% endif %}" * 3000, "{% for %}"])
def test_what_does_not_compile_is_the_models_fault(source):
    with pytest.raises(ModelError, match="the chat template does not compile"):
        ChatTemplate(source, {})


def test_an_error_of_the_templates_own_is_cut():
    with pytest.raises(RequestError, match="chat template: xxx") as refused:
        ChatTemplate("{{ raise_exception('x' * 100000) }}", {}).render(MESSAGES)
    assert len(str(refused.value)) == 500


def test_work_is_counted_the_same_each_time_and_long_conversations_fit():
    messages = [
        {"role": ("user", "assistant")[i % 2], "content": f"Message {i} says <|this|>. " * 40} for i in range(1000)
    ]
    source = (
        "{% for m in messages %}{% if m.role == 'user' and '<|this|>' in m.content %}"
        "{{ '<|im_start|>' + m.role + '\\n' }}{% elif m.role is string %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
        "{{ m.content|trim }}{{ '<|im_end|>\\n' }}"
        "{% if not loop.last and loop.nextitem.role != m.role %}{{- ' ' }}{% endif %}{% endfor %}"
    )
    left = []
    for _ in range(2):
        sandbox = Sandbox()
        text = sandbox.from_string(source).render(messages=messages)
        left.append(sandbox.work_left)
    assert left[0] == left[1] > MAX_WORK // 2
    assert text.count("<|im_start|>") == 1000


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ '%s: %d' % ('a', 3) }} {{ '%5.1f|%-4s|'|format(2.25, 'b') }} {{ '100%' }}", "a: 3   2.2|b   | 100%"),
        ("{{ '{} **{:>3}** {x[0]!r}'.format(1, 'c', x=['d']) }} {{ '{y}'.format_map({'y': 2}) }}", "1 **  c** 'd' 2"),
        ("{{ 'a-b'.split('-')|join('+') }} {{ '-'.join(['a', 'b']) }} {{ 'ab'|replace('a', 'cc') }}", "a+b a-b ccb"),
        ("{{ 2**10 }} {{ 7 // 2 }} {{ -7 % 3 }} {{ 'ab' * 3 }} {{ [1] * 2 + [3] }}", "1024 3 2 ababab [1, 1, 3]"),
        ("{{ 'x' ~ 1 ~ none ~ [2] }} {{ 'abc'[::-1] }} {{ [1, 2, 3][1:] }}", "x1None[2] cba [2, 3]"),
        ("{{ range(5)|select('odd')|map('string')|join }} {{ [3, 1]|sort }} {{ [1, 2]|sum }}", "13 [1, 3] 3"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1}.get('b', 'c') }}", "a1c"),
        ("{{ 'a b'|title|center(7) }}|{{ 'a\nb'|indent(2) }}|{{ {'a': [1]}|tojson(indent=1) }}",
         '  A B  |a\n  b|{\n "a": [\n  1\n ]\n}'),
        ("{% for x in [[1, [2]]] recursive %}{{ x if x is number else loop(x) }}{% endfor %}", "12"),
        ("{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i > 4 %}{% break %}{% endif %}{{ i }}"
         "{% endfor %}", "0134"),
        ("{% for i in range(6) if i is even %}{{ loop.index }}{{ i }}{{ loop.length }} {% endfor %}", "103 223 343 "),
        ("{% macro f(x, y=2) %}{{ x }}{{ y }}{{ caller() if caller }}{% endmacro %}{% call f(1) %}!{% endcall %}",
         "12!"),
        ("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21"),
        ("{{ dict(a=1) }}{{ 'a' in 'abc' }}{{ 1 in [1, 2] }}{{ [1] == [1] }}{{ 'a' < 'b' < 'c' }}",
         "{'a': 1}TrueTrueTrueTrue"),
        ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}", "aba"),
        ("{{ messages|map(attribute='role')|list }}{{ (messages|selectattr('role', 'eq', 'user')|first).role }}",
         "['user']user"),
    ],
)  # fmt: skip
def test_ordinary_templates_are_rendered(source, text):
    import jinja2.ext

    assert ChatTemplate(source, {}).render(MESSAGES) == [text]
    if "generation" not in source:  # and as plain Jinja2 does it
        plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
        if "tojson" not in source:
            assert plain.from_string(source).render(messages=MESSAGES) == text
