/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands 19 to 26 in a wrong order, on a connection that has nothing yet. */
#include "common_vm.h"

/* Before BIND nothing is attached; before ATTACH the controller finds no queue. */
static void
test_order(void **state)
{
	struct vu_bind bind = { sizeof(bind), 0, 3, 0 };
	struct reply r;
	struct vm u = { .iommufd = true };
	struct vu_attach at = { sizeof(at), 0, 1, 0 };
	struct vu_detach de = { sizeof(de), 0, 0, 0 };
	struct vu_ioas_id id = { sizeof(id), 0, 0, 0 };

	u.c = vu_open_wait("vm1", IOMMUFD_JSON);
	assert_int_equal(vu_call(u.c, VU_IOMMUFD_ATTACH_PT, &at, sizeof(at),
				 NULL, 0, NULL),
			 EINVAL);
	assert_int_equal(vu_call(u.c, VU_IOMMUFD_DETACH_PT, &de, sizeof(de),
				 NULL, 0, NULL),
			 EINVAL);
	assert_int_equal(vu_call(u.c, VU_IOMMUFD_BIND, &bind, sizeof(bind),
				 NULL, 0, NULL),
			 EINVAL); /* not by a number: by the socket */
	bind.iommufd = -1;
	assert_int_equal(vu_call(u.c, VU_IOMMUFD_BIND, &bind, sizeof(bind),
				 NULL, 0, &r),
			 0);
	memcpy(&bind, r.data, sizeof(bind));
	assert_int_not_equal(bind.devid, 0);
	assert_int_equal(bind.argsz, sizeof(bind));
	assert_int_equal(vu_call(u.c, VU_IOMMUFD_ATTACH_PT, &at, sizeof(at),
				 NULL, 0, NULL),
			 ENOENT);
	assert_int_equal(vu_call(u.c, VU_IOMMUFD_DETACH_PT, &de, sizeof(de),
				 NULL, 0, NULL),
			 EINVAL);
	assert_int_equal(vu_call(u.c, VU_IOMMUFD_ALLOC_IOAS, &id, sizeof(id),
				 NULL, 0, &r),
			 0);
	assert_int_equal(vu_call(u.c, VU_IOMMUFD_ATTACH_PT, &at, sizeof(at),
				 NULL, 0, NULL),
			 0);
	close(u.c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_order) };

	return cmocka_run_group_tests_name("wire iommufd order", tests,
					   daemon_setup, daemon_teardown);
}
