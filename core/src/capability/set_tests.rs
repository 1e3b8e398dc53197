use minicbor::encode::Encoder;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::capability::CapabilityFilter;
use crate::wire::codec;

fn text() -> impl Strategy<Value = String> {
    "[a-zé]{0,6}"
}

fn quantity() -> impl Strategy<Value = Quantity> {
    prop_oneof![Just(0.0), 0.0..1e9, Just(f64::MAX)].prop_map(|value| Quantity::new(value).expect("an amount"))
}

fn named() -> impl Strategy<Value = NamedVersion> {
    (text(), text())
}

prop_compose! {
    fn gpu()(
        vendor in option::of(text()),
        model in option::of(text()),
        vram_gb in option::of(quantity()),
        numbers in any::<[Option<u32>; 3]>(),
    ) -> Gpu {
        let [compute_units, tensor_cores, fp16_tflops_x10] = numbers;
        Gpu { vendor, model, vram_gb, compute_units, tensor_cores, fp16_tflops_x10 }
    }
}

prop_compose! {
    fn accelerator()(kind in option::of(text()), memory_gb in option::of(quantity()), tops_x10: Option<u32>) -> Accelerator {
        Accelerator { model: kind.clone(), kind, memory_gb, tops_x10 }
    }
}

prop_compose! {
    fn hardware()(
        cores in any::<[Option<u32>; 2]>(),
        memory_gb in option::of(quantity()),
        gpu_one in option::of(gpu()),
        additional_gpus in vec(gpu(), 0..3),
        storage_gb: Option<u64>,
        network_gbps in option::of(quantity()),
        accelerators in vec(accelerator(), 0..3),
    ) -> Hardware {
        let [cpu_cores, cpu_threads] = cores;
        Hardware { cpu_cores, cpu_threads, memory_gb, gpu: gpu_one, additional_gpus, storage_gb, network_gbps, accelerators }
    }
}

prop_compose! {
    fn software()(
        os in option::of(text()),
        os_version in option::of(text()),
        lists in [vec(named(), 0..3), vec(named(), 0..3), vec(named(), 0..3)],
        cuda_version in option::of(text()),
    ) -> Software {
        let [runtimes, frameworks, drivers] = lists;
        Software { os, os_version, runtimes, frameworks, drivers, cuda_version }
    }
}

prop_compose! {
    fn model()(
        texts in [option::of(text()), option::of(text()), option::of(text())],
        numbers in any::<[Option<u32>; 2]>(),
        modalities in vec(text(), 0..3),
        tokens_per_sec in option::of(quantity()),
        loaded: Option<bool>,
    ) -> Model {
        let ([model_id, family, quantization], [parameters_b_x10, context_length]) = (texts, numbers);
        Model { model_id, family, parameters_b_x10, context_length, quantization, modalities, tokens_per_sec, loaded }
    }
}

prop_compose! {
    fn tool()(
        texts in [option::of(text()), option::of(text()), option::of(text()), option::of(text()), option::of(text())],
        requires in vec(text(), 0..3),
        estimated_time_ms in option::of(quantity()),
        stateless: Option<bool>,
    ) -> Tool {
        let [tool_id, name, version, input_schema, output_schema] = texts;
        Tool { tool_id, name, version, input_schema, output_schema, requires, estimated_time_ms, stateless }
    }
}

prop_compose! {
    fn limits()(numbers in any::<[Option<u32>; 4]>(), sizes in any::<[Option<u64>; 2]>()) -> Limits {
        let [max_concurrent_requests, max_tokens_per_request, rate_limit_rpm, max_batch_size] = numbers;
        let [max_input_bytes, max_output_bytes] = sizes;
        Limits {
            max_concurrent_requests,
            max_tokens_per_request,
            rate_limit_rpm,
            max_batch_size,
            max_input_bytes,
            max_output_bytes,
        }
    }
}

prop_compose! {
    fn set()(
        hardware in option::of(hardware()),
        software in option::of(software()),
        models in vec(model(), 0..3),
        tools in vec(tool(), 0..3),
        tags in vec(text(), 0..4),
        limits in option::of(limits()),
        metadata in vec(named(), 0..3),
    ) -> CapabilitySet {
        CapabilitySet { hardware, software, models, tools, tags, limits, metadata }
    }
}

prop_compose! {
    fn filter()(
        lists in [vec(text(), 0..3), vec(text(), 0..3), vec(text(), 0..3), vec(text(), 0..3)],
        least in [option::of(quantity()), option::of(quantity())],
        require_gpu: bool,
        gpu_vendor in option::of(text()),
        min_context_length: Option<u32>,
    ) -> CapabilityFilter {
        let [require_tags, require_models, require_tools, require_modalities] = lists;
        let [min_memory_gb, min_vram_gb] = least;
        CapabilityFilter {
            require_tags,
            require_models,
            require_tools,
            min_memory_gb,
            require_gpu,
            gpu_vendor,
            min_vram_gb,
            min_context_length,
            require_modalities,
        }
    }
}

proptest! {
    #[test]
    fn any_set_is_read_as_it_was_written_and_only_whole(set in set()) {
        let bytes = codec::encode(&set);
        prop_assert_eq!(codec::decode::<CapabilitySet>(&bytes), Ok(set));
        for end in 0..bytes.len() {
            prop_assert!(codec::decode::<CapabilitySet>(&bytes[..end]).is_err());
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        prop_assert_eq!(codec::decode::<CapabilitySet>(&longer), Err(codec::DecodeError::TrailingBytes(1)));
    }

    #[test]
    fn any_filter_is_read_as_it_was_written(filter in filter()) {
        prop_assert_eq!(codec::decode::<CapabilityFilter>(&codec::encode(&filter)), Ok(filter));
    }

    #[test]
    fn no_bytes_make_more_of_themselves_than_lists_may_hold(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(set) = codec::decode::<CapabilitySet>(&bytes) {
            prop_assert!(set.tags.len().max(set.tools.len()).max(set.models.len()) <= bytes.len().min(MAX_ITEMS));
        }
    }
}

#[test]
fn what_says_nothing_costs_one_byte_and_fields_of_later_versions_are_passed_over() {
    assert_eq!(codec::encode(&CapabilitySet::default()), [0xa0]);
    let mut later = Vec::new();
    let mut encoder = Encoder::new(&mut later);
    let written = encoder.map(2).and_then(|e| e.u8(4)?.array(1)?.str("x")?.u8(99)?.map(1)?.u8(0)?.str("?"));
    written.expect("a Vec takes it");
    let read: CapabilitySet = codec::decode(&later).expect("unknown fields are skipped");
    assert_eq!(read, CapabilitySet { tags: vec!["x".to_owned()], ..CapabilitySet::default() });
}

#[test]
fn lists_are_bounded_before_anything_is_allocated() {
    let with_tags = |count: usize| {
        let tags = vec![String::new(); count];
        codec::encode(&CapabilitySet { tags, ..CapabilitySet::default() })
    };
    assert!(codec::decode::<CapabilitySet>(&with_tags(MAX_ITEMS)).is_ok());
    assert!(codec::decode::<CapabilitySet>(&with_tags(MAX_ITEMS + 1)).is_err());
    // A map of one, tags, that are said to be 2^32.
    assert!(codec::decode::<CapabilitySet>(&[0xa1, 4, 0x9b, 0, 0, 0, 1, 0, 0, 0, 0]).is_err());
}

#[test]
fn an_amount_is_finite_and_not_negative_on_the_wire_too() {
    assert_eq!(Quantity::new(-1.0), None);
    assert_eq!(Quantity::new(f64::NAN), None);
    assert_eq!(Quantity::new(f64::INFINITY), None);
    for bad in [f64::NAN, -1.0, f64::INFINITY] {
        let mut bytes = Vec::new();
        Encoder::new(&mut bytes).f64(bad).expect("a Vec takes it");
        assert!(codec::decode::<Quantity>(&bytes).is_err());
    }
}
