"""Each kind of broken manifest, with the message that it gives."""

import pytest

from fastkernels.errors import ManifestError
from fastkernels.manifest import load_manifest

ENTRY = "m.yaml: operators.rms_norm.scenarios[0]"
STORE = "m.yaml: operators.store.scenarios[0]"
X = "x: {shape: [tokens, 4096], dtype: bfloat16, values: normal}"
SLOTS = "{shape: [tokens], dtype: int64, values: slot_mapping, args: {slots: 64*tokens+128}}"
SIZE = "a number of at least 1 or an expression such as tokens, 4*tokens, tokens+1"

UNKNOWN_KEYS = [
    (
        "category: llm",
        "category: llm\nauthor: me",
        "m.yaml: author: unknown key; allowed are schema_version, category, models, golden, configs, "
        "contexts, operators. Did you mean 'category'?",
    ),
    (
        "id: Qwen/Qwen3-8B",
        "name: Qwen/Qwen3-8B",
        "m.yaml: models.qwen3-8b.id: missing\nm.yaml: models.qwen3-8b.name: unknown key; allowed are id, tp",
    ),
    (
        "    class: RMSNorm",
        "    clas: RMSNorm",
        "m.yaml: operators.rms_norm.class: missing\nm.yaml: operators.rms_norm.clas: unknown key; allowed are level, "
        "module, class, scenarios. Did you mean 'class'?",
    ),
    (
        "      tokens: [1, 512]",
        "      toknes: [1, 512]",
        f"{ENTRY}.tokens: missing\n{ENTRY}.toknes: unknown key; allowed are uses, tokens, phase, variant, "
        "parameters, golden, init, context, inputs. Did you mean 'tokens'?",
    ),
    (
        X,
        X.replace("dtype", "dtpye"),
        f"{ENTRY}.inputs.x.dtpye: unknown key; allowed are shape, dtype, strides, values, args. Did you mean 'dtype'?",
    ),
]

WRONG_TYPES = [
    ("tokens: [1, 512]", "tokens: 512", f"{ENTRY}.tokens: 512 is not a list"),
    ("tokens: [1, 512]", "tokens: [1, many]", f"{ENTRY}.tokens[1]: 'many' is not a whole number"),
    ("tokens: [1, 512]", "tokens: []", f"{ENTRY}.tokens: [] is empty; at least one is needed"),
    ("uses: [llama31-8b-tp1, qwen3-8b-tp2]", "uses: []", f"{ENTRY}.uses: [] is empty; at least one is needed"),
    (
        "init: {hidden_size: 4096, eps: 1.0e-05, dtype: bfloat16}",
        "init: [4096]",
        f"{ENTRY}.init: [4096] is not a mapping",
    ),
    ("level: 1", "level: one", "m.yaml: operators.rms_norm.level: 'one' is not a whole number"),
    ("level: 1", "level: true", "m.yaml: operators.rms_norm.level: True is not a whole number"),
    ("category: llm", "category: 3", "m.yaml: category: 3 is not text"),
    ("[tokens, 4096]", "[tokens, 40.5]", f"{ENTRY}.inputs.x.shape[1]: 40.5 is not a number or an expression in tokens"),
    (X, "x: normal", f"{ENTRY}.inputs.x: 'normal' is not a mapping"),
    (
        "  qwen3-8b: {id: Qwen/Qwen3-8B, tp: [1, 2]}",
        "  8: {id: Qwen/Qwen3-8B, tp: [1, 2]}",
        "m.yaml: models[8]: 8 is not text",
    ),
]

WRONG_VALUES = [
    ("schema_version: 1", "schema_version: 2", "m.yaml: schema_version: 2 is not 1, the version that is read here"),
    ("level: 1", "level: 5", "m.yaml: operators.rms_norm.level: 5 is not one of 1, 2, 3, 4"),
    ("class: RMSNorm", "class: RMS-Norm", "m.yaml: operators.rms_norm.class: 'RMS-Norm' is not a Python identifier"),
    (
        "module: store_kvcache",
        "module: L1/store",
        "m.yaml: operators.store.module: 'L1/store' is not a Python identifier",
    ),
    ("  rms_norm:", "  rms-norm:", "m.yaml: operators.rms-norm: 'rms-norm' is not a Python identifier"),
    (
        "  qwen3-8b: {id: Qwen/Qwen3-8B, tp: [1, 2]}",
        "  qwen3-8b: {id: Qwen/Qwen3-8B, tp: [1, 2, 2]}",
        "m.yaml: models.qwen3-8b.tp[2]: 2 is given twice",
    ),
    ("tokens: [1, 512]", "tokens: [0, 512]", f"{ENTRY}.tokens[0]: 0 is not a token count of at least 1"),
    ("tokens: [1, 512]", "tokens: [512, 512]", f"{ENTRY}.tokens: 512 is given twice"),
    (
        "phase: prefill",
        "phase: prefil",
        f"{STORE}.phase: 'prefil' is not one of decode, prefill. Did you mean 'prefill'?",
    ),
    (
        "variant: residual",
        "variant: with-residual",
        "m.yaml: operators.rms_norm.scenarios[1].variant: 'with-residual' is not lower-case letters, digits and "
        "'_' only",
    ),
]

USES = [
    (
        "llama31-8b-tp1, qwen3-8b-tp2",
        "llama31-8b-tp3",
        f"{ENTRY}.uses[0]: TP 3 is not one of 1, 2, 4, 8, the degrees of llama31-8b",
    ),
    (
        "llama31-8b-tp1, qwen3-8b-tp2",
        "llama31-8b-tp1, qwen3-9b-tp2",
        f"{ENTRY}.uses[1]: model 'qwen3-9b' is not one of llama31-8b, qwen3-8b. Did you mean 'qwen3-8b'?",
    ),
    (
        "llama31-8b-tp1, qwen3-8b-tp2",
        "llama31-8b",
        f"{ENTRY}.uses[0]: 'llama31-8b' is not of the form MODEL-tpN, such as llama31-8b-tp2",
    ),
    (
        "      variant: residual\n",
        "",
        "m.yaml: operators.rms_norm.scenarios[1]: rms_norm[llama31-8b-tp1-s512] is in operators.rms_norm.scenarios[0] "
        "already",
    ),
    (
        "llama31-8b-tp1, qwen3-8b-tp2",
        "llama31-8b-tp1, llama31-8b-tp1",
        f"{ENTRY}.uses: 'llama31-8b-tp1' is given twice",
    ),
]

INIT = [
    ("hidden_size: 4096", "hidden_size: 0", f"{ENTRY}.init.hidden_size: 0 is not a size of at least 1"),
    (
        "eps: 1.0e-05",
        "eps: 1e-05",
        f"{ENTRY}.init.eps: '1e-05' is text in YAML 1.1; a number needs a point and a sign: 1.0e-05",
    ),
    (
        "eps: 1.0e-05, dtype: bfloat16",
        "eps: 1.0e-05, dtype: bf16",
        f"{ENTRY}.init.dtype: 'bf16' is not one of bfloat16, float16, float32, float64, float8_e4m3fn, float8_e5m2, "
        "int8, uint8, int16, int32, int64, bool. Did you mean 'bfloat16'?",
    ),
]

PLAIN = "a number, text, a truth value, null, or a list or mapping of these"
NOT_PLAIN = [
    (
        "hidden_size: 4096",
        "hidden_size: 2026-11-21",
        f"{ENTRY}.init.hidden_size: datetime.date(2026, 11, 21) is not {PLAIN}",
    ),
    ("hidden_size: 4096", "sizes: {1: 2}", f"{ENTRY}.init.sizes: {{1: 2}} is not {PLAIN}"),
    ("hidden_size: 4096", "sizes: &loop [*loop]", f"{ENTRY}.init.sizes: [[...]] is not {PLAIN}"),
    (
        "args: {value: tokens}",
        "args: {value: !!set {a}}",
        f"{STORE}.inputs.max_seqlen.args.value: {{'a'}} is not {PLAIN}",
    ),
]

SHAPES = [
    ("[tokens, 4096]", "[tokens, 0]", f"{ENTRY}.inputs.x.shape[1]: 0 is not {SIZE}"),
    ("[tokens, 4096]", "[tokens, -1]", f"{ENTRY}.inputs.x.shape[1]: -1 is not {SIZE}"),
    ("[tokens, 4096]", "[token, 4096]", f"{ENTRY}.inputs.x.shape[0]: 'token' is not {SIZE}. Did you mean 'tokens'?"),
    (
        "[tokens, 4096]",
        "[tokens/2, 4096]",
        f"{ENTRY}.inputs.x.shape[0]: 'tokens/2' is not {SIZE}. Did you mean 'tokens'?",
    ),
    ("[tokens, 4096]", "[0*tokens, 4096]", f"{ENTRY}.inputs.x.shape[0]: '0*tokens' is not {SIZE}"),
    (X, "x: {dtype: bfloat16, values: normal}", f"{ENTRY}.inputs.x.shape: missing"),
    (X, "x: {shape: [tokens], values: normal}", f"{ENTRY}.inputs.x.dtype: missing"),
    (X, X.replace("dtype", "strides: [4097], dtype"),
     f"{ENTRY}.inputs.x.strides: [4097] are not the strides of 2 dimensions"),
    (X, X.replace("dtype", "strides: [4097, 2], dtype"),
     f"{ENTRY}.inputs.x.strides[1]: 2 is not 1: elements of a row lie together"),
    (X, X.replace("dtype", "strides: [4095, 1], dtype"),
     f"{ENTRY}.inputs.x.strides[0]: 4095 is under 4096, the elements that lie within one step"),
    (X, X.replace("dtype", "strides: [wide, 1], dtype"), f"{ENTRY}.inputs.x.strides[0]: 'wide' is not a whole number"),
    (
        "dtype: bfloat16, values: normal",
        "dtype: floaty, values: normal",
        f"{ENTRY}.inputs.x.dtype: 'floaty' is not one of bfloat16, float16, float32, float64. Did you mean 'float64'?",
    ),
    (
        "dtype: int64, values: slot_mapping",
        "dtype: float16, values: slot_mapping",
        f"{STORE}.inputs.slot_mapping.dtype: 'float16' is not one of int32, int64",
    ),
]

GENERATORS = [
    (
        "dtype: bfloat16, values: normal",
        "dtype: bfloat16, values: normals",
        f"{ENTRY}.inputs.x.values: 'normals' is not one of normal, correction_bias, rank_part, routed, router_logits, "
        "routing_weights, topk_ids, expert_choices, sorted_token_ids, block_experts, padded_rows, literal, positions, "
        "token_ids, slot_mapping, block_table, seqused_k, cu_seqlens, longest, same_as, batch_slots, batch_positions, "
        "key_slots. "
        "Did you mean 'normal'?",
    ),
    (
        X,
        "x: {shape: [tokens], dtype: int64, values: token_ids}",
        f"{ENTRY}.inputs.x.args.vocab: missing; token_ids needs it",
    ),
    (
        "args: {std: 0.5}",
        "args: {sdt: 0.5}",
        f"{STORE}.inputs.key_cache.args.sdt: unknown argument; normal takes std, mean. Did you mean 'std'?",
    ),
    (
        X,
        f"{X}\n        most: {{values: longest, args: {{of: x}}}}",
        f"{ENTRY}.inputs.most.args.of: x is normal, not the boundaries of sequences (cu_seqlens)",
    ),
    (
        X,
        "x: {values: longest, args: {of: ends}}",
        f"{ENTRY}.inputs.x.args.of: 'ends' is no earlier input; those are none",
    ),
    (
        X,
        "x: {shape: [tokens, 4096], dtype: bfloat16, values: rank_part, args: {ranks: 2}}",
        f"{ENTRY}.inputs.x.args.ranks: 2 is not the TP degree of llama31-8b-tp1",
    ),
    (
        X,
        "x: {shape: [tokens, 4096], dtype: bfloat16, values: rank_part}",
        f"{ENTRY}.inputs.x.args.ranks: missing; rank_part needs it",
    ),
    ("args: {std: 0.5}", "args: {mean: four}", f"{STORE}.inputs.key_cache.args.mean: 'four' is not a number"),
    ("args: {std: 0.5}", "args: {std: .nan}",
     f"{STORE}.inputs.key_cache.args.std: nan is no number that a kernel can compute with; NaN and infinities are not "
     "allowed"),
    ("args: {std: 0.5}", "args: {std: -1}", f"{STORE}.inputs.key_cache.args.std: -1 is not a number over 0"),
    ("args: {slots: 64*tokens+128}", "args: {slots: 0}", f"{STORE}.inputs.slot_mapping.args.slots: 0 is not {SIZE}"),
    (
        "args: {slots: 64*tokens+128}",
        "args: {slots: 100}",
        f"{STORE}.inputs.slot_mapping.args.slots: 100 is under the 2048 distinct values of 2048 tokens",
    ),
    ("shape: [9]", "shape: [8]", f"{STORE}.inputs.cu_seqlens.shape: [8] is not [9], the boundaries of 8 sequences"),
    (
        "{values: literal, args: {value: tokens}}",
        "{values: literal}",
        f"{STORE}.inputs.max_seqlen.args.value: missing; literal needs it",
    ),
    (
        "{values: literal, args: {value: tokens}}",
        "{values: literal, shape: [1], args: {value: tokens}}",
        f"{STORE}.inputs.max_seqlen.shape: literal makes no tensor and has none",
    ),
    (
        "args: {of: x}",
        "args: {of: y}",
        "m.yaml: operators.rms_norm.scenarios[1].inputs.residual.args.of: 'y' is no earlier input; those are x",
    ),
    (
        "values: same_as, args: {of: x}",
        "values: router_logits, args: {top_k: 2, correction: e_score}",
        "m.yaml: operators.rms_norm.scenarios[1].inputs.residual.args.correction: 'e_score' is no earlier input; "
        "those are x",
    ),
    (
        "shape: [tokens, 4096], dtype: bfloat16, values: same_as",
        "shape: [tokens, 8], dtype: bfloat16, values: same_as",
        "m.yaml: operators.rms_norm.scenarios[1].inputs.residual: shape and dtype differ from those of x: "
        "['tokens', 4096] bfloat16",
    ),
]

BATCH = """\
      context:
        block_table: {shape: [tokens, 4], dtype: int32, values: block_table, args: {pages: 4*tokens+8}}
        seqused_k: {shape: [tokens], dtype: int32, values: seqused_k, args: {max: 64, padded: true}}
        num_decodes: {values: literal, args: {value: tokens}}
        max_seqlen_k: {values: literal, args: {value: 64}}
        slot_mapping: {shape: [tokens], dtype: int64, values: batch_slots, args: {page_size: 16}}
        key_cache: {shape: [4*tokens+8, 16, 2, 64], dtype: float16, values: normal}
        value_cache: {shape: [4*tokens+8, 16, 2, 64], dtype: float16, values: normal}
"""
CONTEXT = [
    (
        "        slot_mapping:",
        "        slot_maping:",
        f"{STORE}.context.slot_maping: context value 'slot_maping' is not one of slot_mapping, block_table, seqused_k, "
        "num_decodes, max_seqlen_k, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, prefill_max_seqlen_k, key_slots, "
        "key_cache, value_cache, latent_cache. Did you mean 'slot_mapping'?\n"
        f"{STORE}.context.slot_mapping: missing",
    ),
    (
        "        num_decodes: {values: literal, args: {value: tokens}}\n",
        "",
        f"{STORE}.context.num_decodes: missing; block_table needs it",
    ),
    (
        "        value_cache: {",
        "        key_slots: {",
        f"{STORE}.context.cu_seqlens_k: missing; key_slots needs it\n"
        f"{STORE}.context.key_cache: missing; a context has key_cache and value_cache, or latent_cache",
    ),
    (
        "        key_cache: {shape: [4*tokens+8, 16, 2, 64], dtype: float16, values: normal}",
        "        key_cache: {shape: [4*tokens+8, 16, 2, 64], dtype: int8, values: normal}",
        f"{STORE}.context.key_cache.dtype: 'int8' is not one of bfloat16, float16, float32, float64",
    ),
    (
        "        block_table: {shape: [tokens, 4], dtype: int32, values: block_table, args: {pages: 4*tokens+8}}\n",
        "        block_tables: {}\n",
        f"{STORE}.context.block_tables.values: missing",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), CONTEXT)
def test_context_message(write, old, new, message):
    assert BATCH.count(old) == 1
    with pytest.raises(ManifestError) as error:
        load_manifest(write("      init: {}\n", "      init: {}\n" + BATCH.replace(old, new)))
    assert str(error.value) == message


def test_a_generator_that_follows_from_lengths_needs_them_before_it(write):
    slots = "slot_mapping: {shape: [tokens], dtype: int64, values: slot_mapping, args: {slots: 64*tokens+128}}"
    for new, message in (
        ("slots: {shape: [tokens], dtype: int64, values: batch_positions}",
         f"{STORE}.inputs.slots.values: batch_positions follows from seqused_k and block_table, or cu_seqlens_q and "
         "cu_seqlens_k, in the context before it"),
        ("context.key_cache: {shape: [3], dtype: float16, values: normal}",
         f"{STORE}.inputs.context.key_cache: values of the context stand in the section context"),
    ):  # fmt: skip
        with pytest.raises(ManifestError) as error:
            load_manifest(write(slots, new))
        assert str(error.value) == message


YAML = [
    ("models:", "models: [", "m.yaml: line 5, column 3: did not find expected ',' or ']'"),
    ("level: 1", "level: 1\n    level: 2", "m.yaml: line 9, column 5: key 'level' is given twice in one mapping"),
    ("  store:", "  rms_norm:", "m.yaml: line 23, column 3: key 'rms_norm' is given twice in one mapping"),
    ("category: llm", "category: !!python/object:os.system llm", "m.yaml: line 2, column 11: could not determine a "),
]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [*UNKNOWN_KEYS, *WRONG_TYPES, *WRONG_VALUES, *USES, *INIT, *NOT_PLAIN, *SHAPES, *GENERATORS],
)
def test_message(write, old, new, message):
    with pytest.raises(ManifestError) as error:
        load_manifest(write(old, new))
    assert str(error.value) == message


@pytest.mark.parametrize(("old", "new", "start"), YAML)
def test_yaml_message_names_the_line(write, old, new, start):
    with pytest.raises(ManifestError) as error:
        load_manifest(write(old, new))
    assert str(error.value).startswith(start)


def test_a_missing_file(write, tmp_path):
    write()
    with pytest.raises(ManifestError, match=r"^none\.yaml: no such manifest$"):
        load_manifest(tmp_path / "none.yaml")


def test_a_missing_file_is_told_from_a_mistyped_one(write, tmp_path):
    write().rename(tmp_path / "mine.yaml")
    with pytest.raises(ManifestError, match=r"^mien\.yml: no such manifest\. Did you mean 'mine\.yaml'\?$"):
        load_manifest(tmp_path / "mien.yml")


def test_a_directory(write, tmp_path):
    write()
    with pytest.raises(ManifestError, match=r"^\.: cannot be read: "):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"",
            "m.yaml: found nothing; a manifest is a mapping with the keys schema_version, category, models, operators",
        ),
        (
            b"- a",
            "m.yaml: found list; a manifest is a mapping with the keys schema_version, category, models, operators",
        ),
        (b"a: \xff", "m.yaml: not UTF-8: byte 3: invalid start byte"),
    ],
)
def test_a_file_that_is_no_manifest(write, content, message):
    path = write()
    path.write_bytes(content)
    with pytest.raises(ManifestError) as error:
        load_manifest(path)
    assert str(error.value) == message


def test_many_problems_are_listed_and_the_rest_counted(write):
    path = write()
    path.write_text(
        path.read_text().replace("4096]", "-1]").replace("tokens: [1, 512]", f"tokens: {list(range(-12, 0))}")
    )
    with pytest.raises(ManifestError) as error:
        load_manifest(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "m.yaml: 5 more problems"
