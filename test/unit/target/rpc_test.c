/* SPDX-License-Identifier: BSD-3-Clause */
/* Methods without a socket: what they refuse, and that a saved configuration comes back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"

#define NQN "nqn.2024-01.io.example:disk"
#define Q "\"nqn\":\"" NQN "\""
#define NULL0 "\"name\":\"n0\",\"block_size\":512,\"num_blocks\":64"
#define DELAY(name, base)                                   \
	"{\"name\":\"" name "\",\"base_bdev_name\":\"" base \
	"\",\"avg_read_latency\":1,\"p99_read_latency\":2," \
	"\"avg_write_latency\":3,\"p99_write_latency\":4}"

static void
good(const char *method, const char *params)
{
	json_t *r = unit_call(method, params);

	if (!r)
		fail_msg("%s %s: %d %s", method, params, unit_code,
			 unit_message);
	json_decref(r);
}

/* In order: what the good ones make, the bad ones find. */
static const struct rpc_case {
	const char *method, *params;
	int code; /* 0: succeeds */
	const char *part;
} cases[] = {
	{ "bdev_null_create", "{" NULL0 "}", 0, NULL },
	{ "bdev_null_create", "{" NULL0 "}", -17, "n0" },
	{ "bdev_null_create",
	  "{\"name\":\"\",\"block_size\":512,\"num_blocks\":8}", -32602,
	  "'name'" },
	{ "bdev_malloc_create",
	  "{\"name\":\"\",\"block_size\":512,\"num_blocks\":8}", -32602,
	  "'name'" },
	{ "bdev_null_create",
	  "{\"name\":\"a\\nb\",\"block_size\":512,\"num_blocks\":8}", -32602,
	  "'name'" },
	{ "bdev_null_create",
	  "{\"name\":\"x\",\"block_size\":513,\"num_blocks\":8}", -22, "513" },
	{ "bdev_null_create",
	  "{\"name\":\"x\",\"block_size\":512,\"num_blocks\":0}", -22, "" },
	{ "bdev_null_create",
	  "{\"name\":\"x\",\"block_size\":512,\"num_blocks\":8,\"md_size\":8}",
	  -32602, "'md_size'" },
	{ "bdev_null_create", "{" NULL0 ",\"uuid\":\"zz\"}", -32602, "'uuid'" },
	{ "bdev_malloc_create",
	  "{\"block_size\":512,\"num_blocks\":8,\"optimal_io_boundary\":8}",
	  -32602, "'optimal_io_boundary'" },
	{ "bdev_malloc_create", "{\"block_size\":512,\"num_blocks\":-1}",
	  -32602, "'num_blocks'" },
	{ "bdev_aio_create", "{\"name\":\"a\",\"filename\":\"/nonexistent/x\"}",
	  -2, "/nonexistent/x" },
	{ "bdev_aio_create", "{\"name\":\"a\",\"filename\":\"/dev/null\"}", -22,
	  "" },
	{ "bdev_aio_rescan", "{\"name\":\"n0\"}", -19, "n0" },
	{ "bdev_uring_rescan", "{\"name\":\"n0\"}", -19, "n0" },
	{ "bdev_uring_create", "{\"name\":\"a\"}", -32602, "'filename'" },
	{ "bdev_uring_create",
	  "{\"name\":\"a\",\"filename\":\"x\",\"nowait\":true}", -32602,
	  "nowait" },
	{ "bdev_uring_delete", "{\"name\":\"n0\"}", -19, "n0" },
	{ "bdev_malloc_delete", "{\"name\":\"n0\"}", -19, "n0" },
	{ "bdev_delay_create", DELAY("d", "none"), -19, "none" },
	{ "bdev_delay_create", "{\"name\":\"d\",\"base_bdev_name\":\"n0\"}",
	  -32602, "'avg_read_latency'" },
	{ "bdev_error_create", "{\"base_name\":\"none\"}", -19, "none" },
	{ "bdev_error_inject_error",
	  "{\"name\":\"n0\",\"io_type\":\"read\",\"error_type\":\"failure\"}",
	  -19, "n0" },
	{ "bdev_error_inject_error",
	  "{\"name\":\"n0\",\"io_type\":\"read\",\"error_type\":\"nvme_failure\"}",
	  -32602, "'error_type'" },
	{ "bdev_get_bdevs", "{\"timeout\":5}", -32602, "'timeout'" },
	{ "bdev_get_bdevs", "{\"name\":\"none\",\"timeout\":5}", -19, "none" },
	{ "bdev_get_iostat", "{\"names\":[\"n0\",\"none\"]}", -19, "none" },
	{ "bdev_get_iostat", "{\"names\":[1]}", -32602, "'names'" },
	{ "bdev_get_iostat", "{\"per_channel\":true}", -32602,
	  "'per_channel'" },
	{ "bdev_get_iostat", "{\"reset_mode\":\"some\"}", -32602,
	  "'reset_mode'" },
	{ "bdev_reset_iostat", "{\"name\":\"none\"}", -19, "none" },
	{ "bdev_get_histogram", "{\"name\":\"none\"}", -19, "none" },
	{ "bdev_get_histogram", "{\"name\":\"n0\"}", -2, "n0" },
	{ "bdev_enable_histogram", "{\"name\":\"n0\"}", -32602, "'enable'" },
	{ "bdev_enable_histogram", "{\"name\":\"none\",\"enable\":true}", -19,
	  "none" },
	{ "bdev_enable_histogram",
	  "{\"name\":\"n0\",\"enable\":true,\"opc\":\"reset\"}", -32602,
	  "write_zeroes" },
	{ "bdev_enable_histogram",
	  "{\"name\":\"n0\",\"enable\":true,\"granularity\":11}", -32602,
	  "'granularity'" },
	{ "bdev_enable_histogram",
	  "{\"name\":\"n0\",\"enable\":true,\"max_nsec\":1000}", -32602,
	  "'min_nsec'" },
	{ "bdev_enable_histogram", "{\"name\":\"n0\",\"enable\":true}", 0,
	  NULL },
	{ "bdev_get_histogram", "{\"name\":\"n0\"}", 0, NULL },
	{ "bdev_enable_histogram", "{\"name\":\"n0\",\"enable\":false}", 0,
	  NULL },
	{ "bdev_get_histogram", "{\"name\":\"n0\"}", -2, "n0" },
	{ "bdev_reset_iostat", "{\"mode\":\"some\"}", -32602, "'mode'" },
	{ "bdev_null_create",
	  "{\"name\":\"x\",\"block_size\":512,\"num_blocks\":8,"
	  "\"preferred_write_granularity\":8}",
	  -32602, "'preferred_write_granularity'" },
	{ "bdev_set_options",
	  "{\"bdev_io_pool_size\":65535,\"bdev_io_cache_size\":256,"
	  "\"bdev_auto_examine\":false}",
	  0, NULL },
	{ "bdev_set_options", "{\"bdev_io_pool_size\":\"many\"}", -32602,
	  "'bdev_io_pool_size'" },
	{ "bdev_set_options", "{\"small_buf_pool_size\":1}", -32602,
	  "'small_buf_pool_size'" },
	{ "nvmf_set_config",
	  "{\"admin_cmd_passthru\":{\"identify_ctrlr\":true}}", -32602,
	  "'identify_ctrlr'" },
	{ "nvmf_set_config", "{\"discovery_filter\":\"transport\"}", -32602,
	  "'discovery_filter'" },
	{ "nvmf_set_config", "{\"poll_groups_mask\":\"0xf0\"}", -32602,
	  "'poll_groups_mask'" },
	{ "nvmf_set_config", "{\"poll_groups_mask\":\"0x1\"}", 0, NULL },
	{ "nvmf_set_config", "{\"tgt_name\":\"x\"}", -32602, "'tgt_name'" },
	{ "nvmf_set_config", "{\"discovery_filters\":[\"match_any\"]}", 0,
	  NULL },
	{ "nvmf_set_config", "{\"discovery_filters\":[\"svcid\"]}", -32602,
	  "'svcid'" },
	{ "nvmf_set_config", "{\"discovery_filters\":[1]}", -32602,
	  "'discovery_filters'" },
	{ "nvmf_set_config", "{\"dup_host_policy\":\"allow\"}", 0, NULL },
	{ "nvmf_set_config", "{\"dup_host_policy\":\"never\"}", -32602,
	  "'never'" },
	{ "nvmf_set_max_subsystems", "{}", -32602, "'max_subsystems'" },
	{ "nvmf_set_max_subsystems", "{\"max_subsystems\":1024}", 0, NULL },
	{ "nvmf_set_crdt", "{\"crdt1\":0,\"crdt2\":0,\"crdt3\":0}", 0, NULL },
	{ "nvmf_set_crdt", "{\"crdt4\":0}", -32602, "crdt1, crdt2, crdt3" },
	{ "nvmf_create_transport", "{\"trtype\":\"TCP\"}", -32602, "'TCP'" },
	{ "nvmf_create_transport",
	  "{\"trtype\":\"VFIOUSER\",\"masked_oncs\":[\"nvmwzsv\"]}", -32602,
	  "'masked_oncs'" },
	{ "nvmf_create_transport", "{}", -32602, "'trtype'" },
	{ "nvmf_create_transport",
	  "{\"trtype\":\"VFIOUSER\",\"max_queue_depth\":1}", -32602,
	  "'max_queue_depth'" },
	{ "nvmf_create_transport",
	  "{\"trtype\":\"VFIOUSER\",\"max_queue_depth\":4097}", -32602,
	  "'max_queue_depth'" },
	{ "nvmf_create_transport",
	  "{\"trtype\":\"VFIOUSER\",\"max_io_qpairs_per_ctrlr\":0}", -32602,
	  "'max_io_qpairs_per_ctrlr'" },
	{ "nvmf_create_transport",
	  "{\"trtype\":\"VFIOUSER\",\"max_io_qpairs_per_ctrlr\":129}", -32602,
	  "'max_io_qpairs_per_ctrlr'" },
	{ "nvmf_create_transport",
	  "{\"trtype\":\"VFIOUSER\",\"max_io_size\":12288}", -32602,
	  "power of two" },
	{ "nvmf_create_transport",
	  "{\"trtype\":\"VFIOUSER\",\"max_io_size\":2097152}", -32602,
	  "'max_io_size'" },
	{ "nvmf_create_transport",
	  "{\"trtype\":\"VFIOUSER\",\"pci_vendor_id\":\"x\"}", -32602,
	  "'pci_vendor_id'" },
	{ "nvmf_create_transport",
	  "{\"trtype\":\"VFIOUSER\",\"pci_vendor_id\":-1}", -32602,
	  "'pci_vendor_id'" },
	{ "nvmf_get_transports", "{\"trtype\":\"VFIOUSER\"}", -19, "VFIOUSER" },
	{ "nvmf_create_transport",
	  "{\"trtype\":\"vfiouser\",\"num_cqe\":5,\"max_queue_depth\":64}", 0,
	  NULL },
	{ "nvmf_create_transport", "{\"trtype\":\"VFIOUSER\"}", -32602,
	  "already exists" },
	{ "nvmf_create_subsystem", "{" Q ",\"max_namespaces\":2}", 0, NULL },
	{ "nvmf_create_subsystem",
	  "{\"nqn\":\"nqn.2014-08.org.nvmexpress.discovery\"}", -32602,
	  "already exists" },
	{ "nvmf_subsystem_add_ns", "{" Q "}", -32602, "'namespace'" },
	{ "nvmf_subsystem_add_ns", "{" Q ",\"namespace\":\"n0\"}", -32602,
	  "'namespace'" },
	{ "nvmf_subsystem_add_ns",
	  "{" Q
	  ",\"namespace\":{\"bdev_name\":\"n0\",\"no_auto_visible\":true}}",
	  -32602, "'no_auto_visible'" },
	{ "nvmf_subsystem_add_ns",
	  "{" Q ",\"namespace\":{\"bdev_name\":\"n0\",\"anagrpid\":2}}", -32602,
	  "'anagrpid'" },
	{ "nvmf_subsystem_add_ns",
	  "{" Q ",\"namespace\":{\"bdev_name\":\"none\"}}", -32602,
	  "No such device" },
	{ "nvmf_subsystem_add_host", "{" Q ",\"host\":\"me\"}", -32602,
	  "'host'" },
	{ "nvmf_subsystem_remove_host",
	  "{" Q ",\"host\":\"nqn.2024-01.io.example:h\"}", -32602, "'host'" },
	{ "nvmf_subsystem_remove_ns", "{" Q ",\"nsid\":1}", -32602, "'nsid'" },
	{ "nvmf_subsystem_get_listeners", "{}", -32602, "'nqn'" },
	{ "nvmf_get_stats", "{\"tgt_name\":\"x\"}", -32602, "'tgt_name'" },
	{ "nvmf_delete_subsystem", "{\"nqn\":\"nqn.2024-01.io.example:z\"}",
	  -32602, "not found" },
	{ "framework_get_config", "{\"name\":\"vhost\"}", -32602, "vhost" },
	{ "log_set_level", "{\"level\":\"LOUD\"}", -32602, "'level'" },
	{ "notify_get_types", "{\"id\":0}", -32602, "'id'" },
	{ "notify_get_notifications", "{\"max\":-1}", -32602, "'max'" },
	{ "log_set_flag", "{\"flag\":\"\"}", -32602, "all, bdev" },
	{ "log_clear_flag", "{\"flag\":\"NVME\"}", -32602, "'NVME'" },
	{ "log_get_flags", "{\"flag\":\"all\"}", -32602, "'flag'" },
	{ "spdk_get_version", "{\"x\":1}", -32602, "'x'" },
};

static void
test_cases(void **state)
{
	unsigned i;
	json_t *r;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct rpc_case *c = &cases[i];

		r = unit_call(c->method, c->params);
		if (unit_code != c->code || !r != !!c->code ||
		    (c->part && !strstr(unit_message, c->part)))
			fail_msg("%s %s: %d %s", c->method, c->params,
				 unit_code, unit_message);
		json_decref(r);
	}
}

static char *
save(void)
{
	json_t *all = json_pack("{s:[{s:s, s:o}, {s:s, s:o}]}", "subsystems",
				"subsystem", "bdev", "config", save_bdev(),
				"subsystem", "nvmf", "config", save_nvmf());
	char *text = json_dumps(all, JSON_INDENT(2));

	json_decref(all);
	assert_non_null(text);
	return text;
}

static bool loaded;
static char load_error[1536];

static void
on_load(const char *error)
{
	loaded = true;
	snprintf(load_error, sizeof(load_error), "%s", error ? error : "");
}

static void
load(const char *text)
{
	char path[] = "/tmp/belfry-config-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	loaded = false;
	config_load(path, on_load);
	for (unsigned i = 0; i < 1000000 && !loaded; i++)
		reactor_step(reactor_get(0));
	unlink(path);
	assert_true(loaded);
}

static void
test_round_trip(void **state)
{
	char *first, *second;

	good("bdev_null_create", "{" NULL0 "}");
	good("bdev_malloc_create", "{\"block_size\":4096,\"num_blocks\":16}");
	good("bdev_delay_create", DELAY("d", "n0"));
	good("bdev_error_create", "{\"base_name\":\"d\"}");
	good("nvmf_create_transport",
	     "{\"trtype\":\"VFIOUSER\",\"pci_device_id\":7}");
	good("nvmf_create_subsystem", "{" Q ",\"admin_label\":\"x\"}");
	good("nvmf_subsystem_add_host",
	     "{" Q ",\"host\":\"nqn.2024-01.io.example:h\"}");
	good("nvmf_subsystem_add_ns",
	     "{" Q ",\"namespace\":{\"bdev_name\":\"EE_d\",\"nsid\":9,"
	     "\"eui64\":\"0001020304050607\"}}");
	first = save();
	unit_teardown(NULL);
	unit_setup(NULL);
	load(first);
	assert_string_equal(load_error, "");
	second = save();
	assert_string_equal(first, second);
	free(first);
	free(second);
}

/* As SPDK saves it: what its bdev and nvmf subsystems hold for one null device behind one directory. */
static const char foreign[] =
	"{\"subsystems\":[{\"subsystem\":\"bdev\",\"config\":[{\"method\":"
	"\"bdev_set_options\",\"params\":{\"bdev_io_pool_size\":65535,"
	"\"bdev_io_cache_size\":256,\"bdev_auto_examine\":true,"
	"\"iobuf_small_cache_size\":128,\"iobuf_large_cache_size\":16}},"
	"{\"method\":\"bdev_null_create\",\"params\":{\"name\":\"n0\","
	"\"num_blocks\":204800,\"block_size\":512,\"physical_block_size\":512,"
	"\"md_size\":0,\"dif_type\":0,\"dif_is_head_of_md\":false,"
	"\"dif_pi_format\":0,\"uuid\":"
	"\"5e4cd7b9-70ba-4a30-8ac4-9ddb4e3a7f54\"}},"
	"{\"method\":\"bdev_wait_for_examine\"}]},"
	"{\"subsystem\":\"nvmf\",\"config\":[{\"method\":"
	"\"nvmf_set_config\",\"params\":{\"discovery_filter\":\"match_any\","
	"\"admin_cmd_passthru\":{\"identify_ctrlr\":false},"
	"\"dhchap_digests\":[\"sha256\"],\"dhchap_dhgroups\":[\"null\"]}},"
	"{\"method\":\"nvmf_create_transport\",\"params\":{\"trtype\":"
	"\"VFIOUSER\",\"max_queue_depth\":256,\"max_io_qpairs_per_ctrlr\":127,"
	"\"in_capsule_data_size\":0,\"max_io_size\":131072,"
	"\"io_unit_size\":131072,\"max_aq_depth\":32,"
	"\"num_shared_buffers\":0,\"buf_cache_size\":0,"
	"\"dif_insert_or_strip\":false,\"zcopy\":false,"
	"\"disable_mappable_bar0\":false,\"disable_adaptive_irq\":false,"
	"\"disable_shadow_doorbells\":false,\"abort_timeout_sec\":1,"
	"\"ack_timeout\":0,\"data_wr_pool_size\":0}},"
	"{\"method\":\"nvmf_create_subsystem\",\"params\":{" Q ","
	"\"allow_any_host\":true,\"serial_number\":\"S\",\"model_number\":"
	"\"M\",\"max_namespaces\":32,\"min_cntlid\":1,\"max_cntlid\":65519,"
	"\"ana_reporting\":false}},{\"method\":\"nvmf_subsystem_add_ns\","
	"\"params\":{" Q ",\"namespace\":{\"nsid\":1,\"bdev_name\":\"n0\","
	"\"nguid\":\"5E4CD7B970BA4A308AC49DDB4E3A7F54\",\"uuid\":"
	"\"5e4cd7b9-70ba-4a30-8ac4-9ddb4e3a7f54\",\"no_auto_visible\":false,"
	"\"hide_metadata\":false}}}]}]}";

static void
test_foreign_config(void **state)
{
	load(foreign);
	assert_string_equal(load_error, "");
	assert_non_null(bdev_find("n0"));
	assert_non_null(subsystem_find(NQN));
}

static const struct load_case {
	const char *text, *part;
} load_cases[] = {
	{ "", "" },
	{ "[]", "'subsystems'" },
	{ "{\"subsystems\":[],\"subsystems\":[]}", "duplicate" },
	{ "{\"subsystems\":[{\"config\":5}]}", "'config'" },
	{ "{\"subsystems\":[{}]}", "'subsystems' 0" },
	{ "{\"subsystems\":[{\"subsystem\":\"x\",\"conf\":[]}]}", "'conf'" },
	{ "{\"subsystems\":[{\"subsystem\":\"bdev\",\"config\":[5]}]}",
	  "\"bdev\", entry 0" },
	{ "{\"subsystems\":[{\"subsystem\":\"bdev\",\"config\":[{\"method\":"
	  "\"spdk_get_version\"},{\"method\":\"no\"}]}]}",
	  "entry 1, no: Method not found" },
	{ "{\"subsystems\":[{\"subsystem\":\"bdev\",\"config\":[{\"method\":"
	  "\"bdev_aio_create\",\"params\":{\"name\":\"a\",\"filename\":"
	  "\"/nonexistent/x\"}}]}]}",
	  "entry 0, bdev_aio_create: No such file" },
};

static void
test_load_errors(void **state)
{
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(load_cases); i++) {
		load(load_cases[i].text);
		if (!*load_error || !strstr(load_error, load_cases[i].part) ||
		    !strstr(load_error, "belfry-config"))
			fail_msg("%s: %s", load_cases[i].text, load_error);
	}
	load("{\"subsystems\":[{\"subsystem\":\"x\",\"config\":null},"
	     "{\"subsystem\":\"y\"}]}");
	assert_string_equal(load_error, "");
}

/* What @params of notify_get_notifications gives, in one line. */
static void
assert_notices(const char *params, const char *want)
{
	json_t *r = unit_call("notify_get_notifications", params), *v;
	char got[512] = "";
	size_t i, n = 0;

	json_array_foreach(r, i, v) {
		n += (size_t)snprintf(
			got + n, sizeof(got) - n, "%s%s %s %d", i ? ", " : "",
			json_string_value(json_object_get(v, "type")),
			json_string_value(json_object_get(v, "ctx")),
			(int)json_integer_value(json_object_get(v, "id")));
		assert_true(n < sizeof(got));
	}
	assert_string_equal(got, want);
	json_decref(r);
}

static void
test_notifications(void **state)
{
	assert_notices("{}", "");
	good("bdev_null_create", "{" NULL0 "}");
	good("bdev_error_create", "{\"base_name\":\"n0\"}");
	assert_null(unit_call("bdev_null_create", "{" NULL0 "}"));
	good("bdev_error_delete", "{\"name\":\"EE_n0\"}");
	assert_notices("{}", "bdev_register n0 0, bdev_register EE_n0 1, "
			     "bdev_unregister EE_n0 2");
	assert_notices("{\"id\":1,\"max\":1}", "bdev_register EE_n0 1");
	assert_notices("{\"max\":0}", "");
	assert_notices("{\"id\":3}", "");
	assert_notices("{\"id\":9223372036854775807}", "");
}

int
rpc_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cases, unit_setup,
						unit_teardown),
		cmocka_unit_test_setup_teardown(test_round_trip, unit_setup,
						unit_teardown),
		cmocka_unit_test_setup_teardown(test_foreign_config, unit_setup,
						unit_teardown),
		cmocka_unit_test_setup_teardown(test_load_errors, unit_setup,
						unit_teardown),
		cmocka_unit_test_setup_teardown(test_notifications, unit_setup,
						unit_teardown),
	};

	return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
