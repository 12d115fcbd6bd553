/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <string.h>

#include "unit.h"

int unit_code;
char unit_message[1024];

struct answer {
	json_t *params; /* ours: gone with the answer, as those of a socket's client are */
	json_t *result;
	bool done;
};

int
unit_setup(void **state)
{
	unsigned core = 0;
	struct reactor_config cfg = { .cores = &core,
				      .ncores = 1,
				      .no_pin = true };

	assert_int_equal(reactors_init(&cfg), 0);
	assert_int_equal(irq_watchdog_init(), 0);
	assert_int_equal(bdev_init(), 0);
	assert_int_equal(nvme_core_init(reactor_get(0)), 0);
	rpc_framework_register();
	rpc_options_register();
	rpc_transport_register();
	rpc_bdev_register();
	rpc_bdev_info_register();
	rpc_nvme_register();
	rpc_nvme_info_register();
	rpc_listener_register();
	rpc_stats_register();
	rpc_notify_register();
	rpc_histogram_register();
	return 0;
}

int
unit_teardown(void **state)
{
	struct subsystem *s;

	while ((s = list_first(&subsystems, struct subsystem, node))) {
		if (!s->deleting)
			subsystem_delete(s, NULL, NULL);
		reactor_step(reactor_get(0));
	}
	transport = (struct transport){ 0 };
	nvme_core_fini(reactor_get(0));
	bdev_fini();
	irq_watchdog_fini();
	reactors_fini();
	return 0;
}

static void
answered(void *arg, const json_t *result, const json_t *error)
{
	struct answer *a = arg;

	a->done = true;
	json_decref(a->params);
	a->result = json_deep_copy(result);
	if (!error)
		return;
	unit_code = (int)json_integer_value(json_object_get(error, "code"));
	snprintf(unit_message, sizeof(unit_message), "%s",
		 json_string_value(json_object_get(error, "message")));
}

json_t *
unit_call(const char *method, const char *params)
{
	uint64_t end = util_now_ns() + 10ull * 1000000000;
	struct answer a = { .params = params ? json_loads(params, 0, NULL)
					     : NULL };

	if (params && !a.params)
		fail_msg("no JSON: %s", params);
	unit_code = 0;
	unit_message[0] = '\0';
	rpc_call(method, a.params, answered, &a);
	while (!a.done && util_now_ns() < end)
		reactor_step(reactor_get(0));
	assert_true(a.done);
	return a.result;
}

int
main(void)
{
	return nqn_tests() + decode_tests() + rpc_tests();
}
