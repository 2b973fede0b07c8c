"""What can be read off a query without a model, and from it whether slow thinking pays."""

import functools
import itertools
import json
import math
import re
from pathlib import Path
from typing import NamedTuple

from pangu_ops.models.config import ModelError

FITTED = Path(__file__).with_name("difficulty.json")
# Of a longer text the beginning and the end are read, where questions stand: no text takes a millisecond to judge.
END = 500
FARTHEST = 4.0  # standard deviations: what is farther out than anything in the fit counts as this far

# Words, numbers, single Chinese characters and operators; the other characters separate.
TOKENS = re.compile(r"[^\W\d_\u3400-\u9fff]+|\d+(?:,\d{3})*(?:\.\d+)?|[\u3400-\u9fff]|[-+*/×÷=^<>%]")
# Here and below, no part can match long stretches from each of their characters: time grows with the length only.
SENTENCES = re.compile(r"[.!?](?=\s|$)|[。！？；\n]")
MULTIPLICATION = re.compile(r"[*×]|\b(?:times|product|multipl\w+)\b|乘|积")
PRODUCT = re.compile(r"(?<!\d)(\d+)\s*(?:[*×x]|times|multiplied by|乘以?)\s*(\d+)")
SUM = re.compile(r"(?<!\d)(\d+)\s*(?:\+|plus|加上?)\s*(\d+)")
DIFFERENCE = re.compile(r"(?<!\d)(\d+)\s*(?:-|minus|减去?)\s*(\d+)")
CODE = re.compile(
    r"```|[{};]|[=!]=|=>|->|\w\(|\b(?:def|class|return|import|null|traceback|exception|segfault|stack|python|javascript"
    r"|java|rust|sql|c\+\+|regex|api|function|script|deadlock|bug)\b|函数|代码|报错|程序|线程|接口"
)
REASONING = re.compile(
    r"\b(?:why|explain|steps?|how (?:many|much|would|could|should)|infer|compar\w+|contrast|analy[sz]\w+"
    r"|evaluat\w+|trade-?offs?|determine|deduc\w+|probability|expected|if\b[^.?!\n]{1,40}\bthen)\b"
    r"|为什么|为何|解释|步骤|分析|比较|求|概率|推断|权衡|如果.{1,40}那么"
)
WORK = re.compile(
    r"\b(?:prov(?:e|ing)|proof|deriv[ei]\w*|show that|argue|justify|solve|design|implement|debug|fix"
    r"|optimi[sz]\w+|refactor|plan|schedul\w+|algorithm|complexity|architecture|strategy|simulat\w+|migrat\w+|diagnos\w+"
    r"|write a \w+)\b|证明|推导|论证|设计|实现|调试|修复|优化|重构|规划|计划|安排|算法|复杂度|架构|策略|方案|编写|诊断"
)
CONSTRAINTS = re.compile(
    r"\b(?:must|cannot|can't|without|at (?:most|least)|exactly|each|every|such that|given|assum\w+|constraints?|only"
    r"|within|no more than|budget|but|while|except)\b|必须|不能|至少|至多|不超过|恰好|使得|只能|预算|每|设|假设|且|已知"
)
DIRECT = re.compile(
    r"\b(?:what(?:'s| is| are)|who|when|where|which|define|translate|hello|hi|hey|thanks?|good \w+|name|spell|capital"
    r"|synonym|opposite|plural|say|mean)\b|你好|您好|谢谢|早上好|再见|谁|哪|翻译|定义|什么|怎么说|首都|反义词|几"
)


class Query(NamedTuple):
    """What :func:`analyse` reads off a text; the numbers are the features of :func:`difficulty`."""

    length: float  # log(1 + words); two Chinese characters count as a word
    distinct: float  # share of distinct words among all
    word_length: float  # mean letters of a word, Chinese left out
    numbers: int
    longest: int  # digits of the longest number
    two_longest: int  # digits of the two longest together
    operators: int
    multiplication: int  # signs and words of it
    product_digits: int  # of the hardest written-out product, the digits of the one times those of the other
    sum_digits: int  # of the longest written-out sum, digits of its longer number
    difference_digits: int  # the same of a difference
    carries: int  # columns of the hardest written-out sum that carry
    borrows: int  # columns of the hardest written-out difference that borrow
    sentences: int
    sentence_length: float  # log(1 + words of a sentence)
    facts: int  # sentences with a number
    story: int  # facts times sentences, where both are several
    code: int
    reasoning: int
    work: int  # words that ask for a proof, a design, a plan, a repair
    constraints: int
    direct: int  # words of questions that are answered at once
    cjk: float  # share of Chinese characters among words and characters


def excerpt(text):
    """``text`` in lower case, of a longer one only the first and the last END characters."""
    return (text if len(text) <= 2 * END else f"{text[:END]}\n{text[-END:]}").lower()


def tokens(text):
    """The words, numbers, Chinese characters and operators of the :func:`excerpt`, in lower case."""
    return TOKENS.findall(excerpt(text))


def analyse(text):
    """The :class:`Query` of the :func:`excerpt` of ``text``."""
    text = excerpt(text)
    words, chinese, digits, operators = [], 0, [], 0
    for token in TOKENS.findall(text):
        if token[0].isdecimal():
            digits.append(sum(map(str.isdecimal, token)))
        elif token in "-+*/×÷=^<>%":
            operators += 1
        else:
            words.append(token)
            chinese += "\u3400" <= token <= "\u9fff"
    digits.sort(reverse=True)
    sentences = [part for part in SENTENCES.split(text) if part.strip()]
    latin = len(words) - chinese
    letters = sum(map(len, words)) - chinese
    facts = sum(any(map(str.isdecimal, part)) for part in sentences)
    length = latin + chinese / 2
    return Query(
        length=math.log1p(length),
        distinct=len(set(words)) / max(1, len(words)),
        word_length=letters / max(1, latin),
        numbers=len(digits),
        longest=sum(digits[:1]),
        two_longest=sum(digits[:2]),
        operators=operators,
        multiplication=len(MULTIPLICATION.findall(text)),
        product_digits=max((len(a) * len(b) for a, b in PRODUCT.findall(text)), default=0),
        sum_digits=max((max(len(a), len(b)) for a, b in SUM.findall(text)), default=0),
        difference_digits=max((max(len(a), len(b)) for a, b in DIFFERENCE.findall(text)), default=0),
        carries=max((carried(a, b) for a, b in SUM.findall(text)), default=0),
        borrows=max((carried(difference(a, b), b) for a, b in DIFFERENCE.findall(text)), default=0),
        sentences=len(sentences),
        sentence_length=math.log1p(length / max(1, len(sentences))),
        facts=facts,
        story=facts * len(sentences) if facts > 1 else 0,
        code=len(CODE.findall(text)),
        reasoning=len(REASONING.findall(text)),
        work=len(WORK.findall(text)),
        constraints=len(CONSTRAINTS.findall(text)),
        direct=len(DIRECT.findall(text)),
        cjk=chinese / max(1, len(words)),
    )


def carried(a, b):
    """How many columns carry when the numbers with the digits ``a`` and ``b`` are added."""
    count = carry = 0
    for x, y in itertools.zip_longest(a[::-1], b[::-1], fillvalue="0"):
        carry = int(x) + int(y) + carry >= 10
        count += carry
    return count


def difference(a, b):
    """The digits of ``a - b``: adding ``b`` to it carries where taking ``b`` from ``a`` borrows."""
    return str(abs(int(a) - int(b)))


def difficulty(query):
    """0 to 1: from 0.5 on slow thinking pays for a text or its :class:`Query`, as fit.py fitted it."""
    if isinstance(query, str):
        query = analyse(query)
    bias, features = coefficients(FITTED)
    logit = bias
    for value, (mean, scale, weight) in zip(query, features):
        logit += weight * max(-FARTHEST, min(FARTHEST, (value - mean) / scale))
    return 1 / (1 + math.exp(-logit))


@functools.cache
def coefficients(path):
    """Bias and a (mean, scale, weight) per feature of the JSON that fit.py wrote."""
    fitted = json.loads(path.read_text())
    if tuple(fitted["features"]) != Query._fields:
        raise ModelError(f"{path.name}: must have the features of Query (fit.py writes it), came {fitted['features']}")
    return fitted["bias"], tuple(tuple(feature.values()) for feature in fitted["features"].values())
